"""Heads: from the backbone's features to one logit a class, and how the last layer begins.

A head is a function of (features, outputs, initializer); adding one is adding a function to `__all__`.
"""

import keras
import numpy as np

from kerasft import spec as specs
from kerasft.spec import Spec

__all__ = ["linear", "mlp"]

SOLVED = ("probe", "zeros", "prior")  # initialisations that are set after building, from the data


def linear(
    features: keras.KerasTensor, outputs: int, initializer: str | keras.Initializer, *, dropout: float = 0.0
) -> keras.KerasTensor:
    """Dropout, then one dense layer.

    Args:
        features: float32 [N, D].
        outputs: C.
        initializer: of the dense kernel.
        dropout: share of features dropped in training, in [0, 1).

    Returns:
        float32 [N, C], logits.
    """
    if dropout:
        features = keras.layers.Dropout(dropout, name="head_dropout")(features)
    return _logits(features, outputs, initializer)


def mlp(
    features: keras.KerasTensor,
    outputs: int,
    initializer: str | keras.Initializer,
    *,
    units: tuple[int, ...] = (256,),
    activation: str = "gelu",
    dropout: float = 0.2,
) -> keras.KerasTensor:
    """Hidden dense layers, each with an activation and dropout, then the logits.

    Args:
        features: float32 [N, D].
        outputs: C.
        initializer: of the last dense kernel; the hidden ones use Glorot's.
        units: widths of the hidden layers.
        activation: a name in keras.activations.
        dropout: share of hidden units dropped in training, in [0, 1).

    Returns:
        float32 [N, C], logits.
    """
    for index, width in enumerate(units):
        features = keras.layers.Dense(width, activation=activation, name=f"head_hidden_{index}")(features)
        if dropout:
            features = keras.layers.Dropout(dropout, name=f"head_dropout_{index}")(features)
    return _logits(features, outputs, initializer)


def _logits(features: keras.KerasTensor, outputs: int, initializer: str | keras.Initializer) -> keras.KerasTensor:
    return keras.layers.Dense(outputs, kernel_initializer=initializer, dtype="float32", name="logits")(features)


def settled_init(head_init: str, pretrained: bool) -> str:
    """`--head_init` with `auto` replaced: a probe of random features would only be in the way."""
    return ("probe" if pretrained else "glorot_uniform") if head_init.strip() == "auto" else head_init.strip()


def build(head: str, head_init: str, features: keras.KerasTensor, outputs: int) -> keras.KerasTensor:
    """Builds the head that `--head` and `--head_init` name.

    Pretrained features are first standardised with the training set's statistics (see `set_statistics`), so that
    one learning rate suits every feature, whatever its scale.

    Raises:
        UserError: an unknown head, argument or initializer.
    """
    ours = {name: globals()[name] for name in __all__}
    spec = specs.parse_one(head, "--head")
    initializer = _initializer(specs.parse_one(head_init, "--head_init"))
    scaled = keras.layers.Normalization(axis=-1, dtype="float32", name="standardise")(features)
    return specs.build(spec, "--head", ours, features=scaled, outputs=outputs, initializer=initializer)


def _initializer(spec: Spec) -> keras.Initializer:
    """The Keras initializer; zeros for those that are set from the data."""
    solved = dict.fromkeys(SOLVED, keras.initializers.Zeros)
    known = specs.choices(keras.initializers, keras.initializers.Initializer)
    return specs.build(spec, "--head_init", solved, known, kind=keras.initializers.Initializer)


def set_statistics(layer: keras.layers.Normalization, features: np.ndarray) -> None:
    """Gives the `standardise` layer the mean and variance of float32 [N, D] features.

    A feature that hardly varies (a dead one, say) gets a hundredth of the mean variance: divided by its own, it
    would drown the others as soon as fine-tuning wakes it up.
    """
    mean, variance = features.mean(0, dtype=np.float64), features.var(0, dtype=np.float64)
    variance = np.maximum(variance, max(0.01 * variance.mean(), 1e-12))
    layer.adapt_mean.assign(mean.reshape(layer.adapt_mean.shape))
    layer.adapt_variance.assign(variance.reshape(layer.adapt_variance.shape))
    layer.finalize_state()


def set_prior(layer: keras.layers.Dense, labels: np.ndarray) -> None:
    """Sets the bias of the C logits to the log frequencies of int32 [N] labels (Lin et al. 2017, section 4.1)."""
    layer.bias.assign(np.log(np.bincount(labels, minlength=layer.units) / len(labels)))


def probe(features: np.ndarray, labels: np.ndarray, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Solves multinomial logistic regression, the L2 penalty chosen by stratified cross-validated log loss.

    scikit-learn's `LogisticRegression` (L-BFGS). The penalty is lowered step by step until two steps in a row no
    longer help. With a class of one example there are no folds: C is then 0.01.

    Args:
        features: float32 [N, D], standardised.
        labels: int32 [N], every class present.
        classes: C.
        seed: of the folds.

    Returns:
        kernel float32 [D, C], bias float32 [C], and the inverse penalty C that was chosen.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold

    folds = min(5, int(np.bincount(labels, minlength=classes).min()))
    best, best_loss, behind = 0.01, np.inf, 0
    if folds >= 2:
        splits = list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(features, labels))
        models = [LogisticRegression(max_iter=300, warm_start=True) for _ in splits]  # each goes on from the last C
        for strength in 10.0 ** np.arange(-4, 2.5, 0.5):
            losses = []
            for model, (fitted, held) in zip(models, splits):
                model.set_params(C=strength).fit(features[fitted], labels[fitted])
                chances = model.predict_proba(features[held])[np.arange(len(held)), labels[held]]
                losses.append(-np.log(np.maximum(chances, 1e-12)).mean())
            better = np.mean(losses) < best_loss
            behind = 0 if better else behind + 1
            if better:
                best, best_loss = float(strength), np.mean(losses)
            if behind == 2:
                break
    model = LogisticRegression(C=best, max_iter=1000).fit(features, labels)
    kernel, bias = model.coef_, model.intercept_
    if classes == 2:  # scikit-learn gives one column of log odds; two logits share it evenly
        kernel, bias = np.concatenate([-kernel, kernel]) / 2, np.concatenate([-bias, bias]) / 2
    return kernel.T.astype(np.float32), bias.astype(np.float32), best
