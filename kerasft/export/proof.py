"""The proof of an artefact: on the whole test set it scores as the trained network does."""

from collections.abc import Mapping

import numpy as np

# The greatest difference of a probability, in float32; of a value, in deviations of its target.
TOLERANCE = 1e-4


class ParityError(Exception):
    """An artefact does not score like the trained model."""


# An output that is proven in addition to the answers: what it must be, and how far it may be from it. For booleans the second says
# where both are right.
Expected = tuple[np.ndarray, float | np.ndarray]


class UnreadableError(ParityError):
    """An artefact cannot be loaded again."""


def compare(
    name: str,
    task: str,
    given: np.ndarray,
    expected: np.ndarray,
    scale: np.ndarray | None = None,
    thresholds: np.ndarray | None = None,
) -> dict:
    """Compares what an artefact answers with what the network answered.

    Args:
        name: of the artefact, for the message.
        task: `single_label`, `multi_label` or `regression`.
        given: float [N, C] probabilities, or float [N, D] values, of the artefact.
        expected: of the network, in the same form.
        scale: float [D], deviation of the training targets, for regression.
        thresholds: float [C], from which on a label applies, for multi-label.

    Returns:
        `max_abs_diff`, `top1_agreement` (not for regression), `label_agreement` (with thresholds) and `n`, as in `metrics.json`.

    Raises:
        ParityError: a label, a probability or a value differs by more than `TOLERANCE`.
    """
    gap = np.abs(given - expected)
    worst = float((gap if scale is None else gap / scale).max())
    result = {"max_abs_diff": float(gap.max())}
    # NaN is a difference too.
    wrong = not worst <= TOLERANCE
    if task != "regression":
        ours, theirs = given.argmax(-1)[:, None], expected.argmax(-1)[:, None]
        result["top1_agreement"] = float((ours == theirs).mean())
        # Two scores nearer than twice the tolerance may change places without anything being wrong.
        margin = np.take_along_axis(expected, theirs, 1) - np.take_along_axis(expected, ours, 1)
        wrong = wrong or margin.max() > 2 * TOLERANCE
    if thresholds is not None:
        result["label_agreement"] = float(((given >= thresholds) == (expected >= thresholds)).all(-1).mean())
    if wrong:
        raise ParityError(
            f"export: the {name} differs from the trained model by up to {worst:.3g} (at most {TOLERANCE:g}) "
            f"on {len(expected)} test images; nothing was exported."
        )
    return {**result, "n": len(expected)}


def compare_extra_outputs(name: str, given: Mapping[str, np.ndarray], expected: Mapping[str, Expected]) -> dict:
    """Compares the outputs of an artefact that come in addition to its answers.

    Args:
        name: of the artefact, for the message.
        given: the artefact's outputs by name, [N, ...].
        expected: by name, what NumPy computed from the network's outputs.

    Returns:
        `extra_outputs`: the largest difference of each output of numbers, and the number of unlike entries of the others.

    Raises:
        ParityError: an output is missing, or differs by more than is allowed.
    """
    found = {}
    for key, (wanted, slack) in expected.items():
        if key not in given:
            raise ParityError(f"export: the {name} does not give {key}; nothing was exported.")
        if wanted.dtype == bool:
            unlike = given[key] != wanted
            found[key], wrong = int(unlike.sum()), bool((unlike & ~slack).any())
        else:
            gap = np.abs(given[key] - wanted)
            # NaN is a difference too.
            found[key], wrong = float(gap.max()), not bool((gap <= slack).all())
        if wrong:
            rule = f"export: {key} of the {name} differs from what NumPy computes ({found[key]:.3g})"
            raise ParityError(f"{rule} on {len(wanted)} test images; nothing was exported.")
    return {"extra_outputs": found} if found else {}
