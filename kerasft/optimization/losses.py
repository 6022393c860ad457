"""Losses: Keras's own by name, each with labels and outputs in the form that it needs."""

from collections.abc import Callable

import keras

from kerasft.settings import spec as specs
from kerasft.settings.errors import UserError
from kerasft.settings.spec import Spec

# Our own short names for `--loss`: a function that gives the arguments of the Keras class.
__all__ = ["cross_entropy", "focal", "huber", "mae", "mse"]

Loss = Callable[[keras.KerasTensor, keras.KerasTensor], keras.KerasTensor]

# The classes of keras.losses that suit a task: name -> (form of the labels, form of the outputs).
_FORMS = {
    "single_label": {
        "SparseCategoricalCrossentropy": ("labels", "from_logits"),
        "CategoricalCrossentropy": ("one_hot", "from_logits"),
        "CategoricalFocalCrossentropy": ("one_hot", "from_logits"),
        "CategoricalGeneralizedCrossEntropy": ("labels", "softmax"),
        "BinaryCrossentropy": ("one_hot", "from_logits"),
        "BinaryFocalCrossentropy": ("one_hot", "from_logits"),
        "CategoricalHinge": ("one_hot", "logits"),
        "KLDivergence": ("one_hot", "softmax"),
        "MeanSquaredError": ("one_hot", "softmax"),
    },
    "multi_label": {
        "BinaryCrossentropy": ("labels", "from_logits"),
        "BinaryFocalCrossentropy": ("labels", "from_logits"),
        "Hinge": ("labels", "logits"),
        "SquaredHinge": ("labels", "logits"),
    },
    "regression": {
        "MeanSquaredError": ("scaled", "scaled"),
        "MeanAbsoluteError": ("scaled", "scaled"),
        "Huber": ("scaled", "scaled"),
        "LogCosh": ("scaled", "scaled"),
        "MeanAbsolutePercentageError": ("labels", "values"),
        "MeanSquaredLogarithmicError": ("labels", "values"),
    },
}
# These need whole labels, and take no shares of them.
_WHOLE = (
    "SparseCategoricalCrossentropy",
    "CategoricalGeneralizedCrossEntropy",
    "CategoricalHinge",
    "Hinge",
    "SquaredHinge",
)
_DEFAULT = {"single_label": "cross_entropy", "multi_label": "cross_entropy", "regression": "mse"}
# Our name -> Keras's class, by task.
_SHORT = {
    "cross_entropy": {"single_label": "CategoricalCrossentropy", "multi_label": "BinaryCrossentropy"},
    "focal": {"single_label": "CategoricalFocalCrossentropy", "multi_label": "BinaryFocalCrossentropy"},
    "huber": {"regression": "Huber"},
    "mae": {"regression": "MeanAbsoluteError"},
    "mse": {"regression": "MeanSquaredError"},
}
# How validation judges regression under a loss. Every other loss is judged by the squared error.
_ERRORS = {"MeanAbsoluteError": "absolute", "LogCosh": "absolute", "Huber": "huber"}


def cross_entropy(label_smoothing: float = 0.0) -> dict:
    """Cross-entropy of softmax or sigmoids, with smoothed labels (Szegedy et al. 2016, section 7).

    -sum_c q_c log softmax(z)_c, with q = 1 - s + s / C for the label's class and s / C for the others; for several
    labels the binary one, with targets s / 2 and 1 - s / 2.

    Args:
        label_smoothing: s, in [0, 1).
    """
    if (
        isinstance(label_smoothing, bool)
        or not isinstance(label_smoothing, int | float)
        or not 0 <= label_smoothing < 1
    ):
        raise ValueError("label_smoothing must be a number in [0, 1)")
    return {"label_smoothing": label_smoothing}


def focal(gamma: float = 2.0) -> dict:
    """Focal loss (Lin et al. 2017): cross-entropy times (1 - p)^gamma, so easy examples count less. No class weights.

    Args:
        gamma: in [0, 10]; 0 is cross-entropy.
    """
    if isinstance(gamma, bool) or not isinstance(gamma, int | float) or not 0 <= gamma <= 10:
        raise ValueError("gamma must be a number in [0, 10]")
    return {"gamma": gamma, "alpha": 1.0}


def huber(delta: float = 1.0) -> dict:
    """Half the squared error up to delta, linear beyond (Huber 1964).

    Args:
        delta: above 0, in deviations of the training targets.
    """
    if isinstance(delta, bool) or not isinstance(delta, int | float) or not delta > 0:
        raise ValueError("delta must be a number above 0")
    return {"delta": delta}


def mae() -> dict:
    """Mean absolute error, in deviations of the training targets."""
    return {}


def mse() -> dict:
    """Mean squared error, in deviations of the training targets."""
    return {}


def build(spec: Spec, task: str, scale: list[float] | None = None, *, mixed: bool = False) -> Loss:
    """The loss that a `--loss` Spec names: `auto`, one of ours, or a keras.losses class that suits the task.

    Args:
        spec: the loss; `auto` is `cross_entropy`, for regression `mse`.
        task: `single_label`, `multi_label` or `regression`.
        scale: of D targets, their deviation in training, by which errors are divided; None for ones.
        mixed: whether the labels are shares of classes, float32 [N, C], as `mixup` and `cutmix` make them.

    Returns:
        A function of labels (int32 [N], float32 [N, C] or float32 [N, D]) and outputs (float32 [N, C] logits or
        [N, D] values) to float32 [N].

    Raises:
        UserError: a name or argument that is unknown or does not suit the task or mixed labels.
    """
    name, arguments = _named(spec, task)
    labels_form, outputs_form = _FORMS[task][name]
    if mixed and name in _WHOLE:
        rule = f"{name} needs whole labels, and mixup and cutmix of --augment give shares of them"
        raise UserError(f"--loss: {rule}. Received: '{spec}'")
    given = {"from_logits": True} if outputs_form == "from_logits" else {}
    made = getattr(keras.losses, name)(**arguments, **given)
    divisor = keras.ops.convert_to_tensor(scale if scale is not None else 1.0, "float32")

    def loss(labels: keras.KerasTensor, outputs: keras.KerasTensor) -> keras.KerasTensor:
        if labels_form == "one_hot" and not mixed:
            labels = keras.ops.one_hot(keras.ops.reshape(labels, [-1]), outputs.shape[-1])
        elif labels_form == "scaled":
            labels, outputs = labels / divisor, outputs / divisor
        if outputs_form == "softmax":
            outputs = keras.ops.softmax(outputs)
        return made.call(labels, outputs)

    return loss


def error(spec: Spec, task: str) -> str:
    """How `scoring.Scorer` measures regression under this loss: `squared`, `absolute` or `huber`."""
    return _ERRORS.get(_named(spec, task)[0], "squared")


def names(task: str) -> tuple[str, ...]:
    """Our own losses for a task. Keras's come beside them."""
    return tuple(name for name in __all__ if task in _SHORT[name])


def _named(spec: Spec, task: str) -> tuple[str, dict]:
    """The name of a keras.losses class and its arguments."""
    spec = Spec(_DEFAULT[task]) if spec == Spec("auto") else spec
    ours = {name: globals()[name] for name in names(task)}
    known = {name: getattr(keras.losses, name) for name in _FORMS[task]}
    # Nothing from outside: only of a known class are the forms known.
    function = specs.resolve(spec, "--loss", ours, known)
    if function in ours.values():
        return _SHORT[function.__name__][task], specs.build(spec, "--loss", ours)
    from_logits = {"from_logits": True} if _FORMS[task][function.__name__][1] == "from_logits" else {}
    # Refuses wrong arguments.
    specs.build(spec, "--loss", known, **from_logits)
    return function.__name__, dict(spec.kwargs) | dict(zip(_arguments(function), spec.args))


def _arguments(function: Callable) -> list[str]:
    import inspect

    return list(inspect.signature(function).parameters)
