"""Losses: ours, one file each, and Keras's own by name; all of labels as the data has them, and of a network's outputs."""

import inspect
from collections.abc import Callable

import keras
import numpy as np

from kerasft.optimization.losses import keras_losses
from kerasft.optimization.losses.brier import brier
from kerasft.optimization.losses.class_balanced import class_balanced
from kerasft.optimization.losses.cross_entropy import cross_entropy
from kerasft.optimization.losses.focal import focal
from kerasft.optimization.losses.formula import Formula
from kerasft.optimization.losses.generalised import generalised
from kerasft.optimization.losses.ordinal import ordinal
from kerasft.optimization.losses.pinball import pinball
from kerasft.optimization.losses.poly import poly
from kerasft.optimization.losses.symmetric import symmetric
from kerasft.optimization.losses.values import huber, mae, mse
from kerasft.settings import spec as specs
from kerasft.settings.errors import UserError
from kerasft.settings.spec import Spec

# Our own names for `--loss`: a function of the arguments to a Formula.
__all__ = [
    "brier",
    "class_balanced",
    "cross_entropy",
    "focal",
    "generalised",
    "huber",
    "mae",
    "mse",
    "ordinal",
    "pinball",
    "poly",
    "symmetric",
]
OURS: dict[str, Callable[..., Formula]] = {name: globals()[name] for name in __all__}

Loss = Callable[[keras.KerasTensor, keras.KerasTensor], keras.KerasTensor]

_DEFAULT = {"single_label": "cross_entropy", "multi_label": "cross_entropy", "regression": "mse"}


def build(
    spec: Spec,
    task: str,
    scale: list[float] | None = None,
    *,
    mixed: bool = False,
    counts: np.ndarray | None = None,
    examples: int = 0,
) -> Loss:
    """The loss that a `--loss` Spec names: `auto`, one of ours, or a keras.losses class that suits the task.

    Args:
        spec: the loss; `auto` is `cross_entropy`, for regression `mse`.
        task: `single_label`, `multi_label` or `regression`.
        scale: of D targets, their deviation in training, by which errors are divided; None for ones.
        mixed: whether the labels are shares of classes, float32 [N, C], as `mixup` and `cutmix` make them.
        counts, examples: training examples of each class, int [C], and in all; None where only the Spec is checked.

    Returns:
        A function of labels (int32 [N], float32 [N, C] or float32 [N, D]) and outputs (float32 [N, C] logits or
        [N, D] values) to float32 [N].

    Raises:
        UserError: a name or argument that is unknown or does not suit the task or mixed labels.
    """
    function = _resolve(spec, task)
    if function in OURS.values():
        formula = getattr(_formula(spec, task, counts, examples), task)
        labels_form = {"single_label": "one_hot", "multi_label": "labels", "regression": "scaled"}[task]
        outputs_form = "as_they_are"
    else:
        name = function.__name__
        labels_form, outputs_form = keras_losses.FORMS[task][name]
        if mixed and name in keras_losses.WHOLE:
            rule = f"{name} needs whole labels, and mixup and cutmix of --augment give shares of them"
            raise UserError(f"--loss: {rule}. Received: '{spec}'")
        formula = keras_losses.build(spec, task)
    divisor = keras.ops.convert_to_tensor(scale if scale is not None else 1.0, "float32")

    def loss(labels: keras.KerasTensor, outputs: keras.KerasTensor) -> keras.KerasTensor:
        if labels_form == "one_hot" and not mixed:
            labels = keras.ops.one_hot(keras.ops.reshape(labels, [-1]), outputs.shape[-1])
        elif labels_form == "scaled":
            labels, outputs = labels / divisor, outputs / divisor
        if outputs_form == "softmax":
            outputs = keras.ops.softmax(outputs)
        return formula(labels, outputs)

    return loss


def check(spec: Spec, task: str, outputs: int, *, mixed: bool = False) -> None:
    """Builds a loss, and calls one of Keras once, which may take arguments that it cannot compute with.

    Args:
        outputs: number of classes or of targets.

    Raises:
        UserError: as `build`, or the call fails.
    """
    loss = build(spec, task, mixed=mixed)
    if _resolve(spec, task) in OURS.values():
        return
    import tensorflow as tf

    shape = (2,) if task == "single_label" and not mixed else (2, outputs)
    try:
        found = loss(np.zeros(shape, "float32" if len(shape) > 1 else "int32"), np.zeros((2, outputs), "float32"))
        if tuple(found.shape) != (2,):
            raise ValueError("does not give one number an example")
    except (ValueError, TypeError, tf.errors.InvalidArgumentError) as error:
        rule = f"{spec.name}() cannot be computed with these arguments for {outputs} outputs"
        raise UserError(f"--loss: {rule} ({' '.join(str(error).split())[:200]}). Received: '{spec}'") from error


def error(spec: Spec, task: str) -> str:
    """How `scoring.Scorer` measures regression under this loss: `squared`, `absolute`, `huber` or `pinball`."""
    function = _resolve(spec, task)
    if function in OURS.values():
        return _formula(spec, task).error
    return keras_losses.ERRORS.get(function.__name__, "squared")


def quantile(spec: Spec, task: str) -> float | None:
    """The quantile that regression predicts under this loss; None for a loss that does not predict one."""
    return _formula(spec, task).quantile if error(spec, task) == "pinball" else None


def delta(spec: Spec, task: str) -> float:
    """Where Huber's error of this loss becomes linear; 1 for other losses, and for those of Keras."""
    return _formula(spec, task).delta if _resolve(spec, task) in OURS.values() else 1.0


def orders_classes(spec: Spec, task: str) -> bool:
    """Whether the order in which the classes are listed counts."""
    return _resolve(spec, task) is ordinal


def weighs_classes(spec: Spec, task: str) -> bool:
    """Whether the loss makes up for rare classes."""
    return _resolve(spec, task) is class_balanced


def names(task: str) -> tuple[str, ...]:
    """Our own losses for a task, without those of Keras."""
    return tuple(name for name in __all__ if getattr(_default_formula(OURS[name]), task))


def _default_formula(function: Callable[..., Formula]) -> Formula:
    return function(**_counted(function, None, 0))


def _resolve(spec: Spec, task: str) -> Callable:
    """One of our functions, or a class of Keras."""
    ours = {name: OURS[name] for name in names(task)}
    return specs.resolve(_concrete(spec, task), "--loss", ours, keras_losses.known(task))


def _concrete(spec: Spec, task: str) -> Spec:
    return Spec(_DEFAULT[task]) if spec == Spec("auto") else spec


def _formula(spec: Spec, task: str, counts: np.ndarray | None = None, examples: int = 0) -> Formula:
    """The Formula of a Spec that names one of ours."""
    given = _counted(_resolve(spec, task), counts, examples)
    return specs.build(_concrete(spec, task), "--loss", {name: OURS[name] for name in names(task)}, **given)


def _counted(function: Callable, counts: np.ndarray | None, examples: int) -> dict:
    """The examples of the classes, for a function that takes them."""
    return {"counts": counts, "examples": examples} if "counts" in inspect.signature(function).parameters else {}
