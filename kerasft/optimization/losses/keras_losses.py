"""Keras's own losses by name, each with labels and outputs in the form that it needs."""

import inspect
from collections.abc import Callable

import keras

from kerasft.optimization.losses import formula
from kerasft.optimization.losses.formula import Function
from kerasft.settings import spec as specs
from kerasft.settings.errors import UserError
from kerasft.settings.spec import Spec

# The classes of keras.losses that suit a task: name -> (form of the labels, form of the outputs).
FORMS = {
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
WHOLE = (
    "SparseCategoricalCrossentropy",
    "CategoricalGeneralizedCrossEntropy",
    "CategoricalHinge",
    "Hinge",
    "SquaredHinge",
)
# Arguments that change the form of a loss, which is one number an example.
_RESERVED = ("axis", "reduction", "name", "dtype")
# How validation judges regression under a loss. Every other loss is judged by the squared error.
ERRORS = {"MeanAbsoluteError": "absolute", "LogCosh": "absolute", "Huber": "huber"}


def known(task: str) -> dict[str, Callable]:
    """The classes that suit a task, by name. Nothing from outside: only of a known class are the forms known."""
    return {name: getattr(keras.losses, name) for name in FORMS[task]}


def build(spec: Spec, task: str) -> Function:
    """The `call` of the class that a Spec names.

    Raises:
        UserError: a name or an argument that the class does not take.
    """
    name = specs.resolve(spec, "--loss", known(task)).__name__
    from_logits = {"from_logits": True} if FORMS[task][name][1] == "from_logits" else {}
    # Refuses wrong arguments.
    specs.build(spec, "--loss", known(task), reserved=_RESERVED, **from_logits)
    # An argument by its place would take the place of from_logits.
    named = dict(zip(inspect.signature(getattr(keras.losses, name)).parameters, spec.args))
    try:
        formula.check_label_smoothing(spec.kwargs.get("label_smoothing", 0.0))
    except ValueError as error:
        raise UserError(f"--loss: {spec.name}() {error}. Received: '{spec}'") from error
    return getattr(keras.losses, name)(**named, **spec.kwargs, **from_logits).call
