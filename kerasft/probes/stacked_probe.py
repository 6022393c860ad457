"""The probe of several depths: one last layer, stacked of probes of the last 1, 2, 4, ... depths.

Each probe is solved by itself, with a penalty of its own. Their outputs are then added with shares that are not negative,
sum to 1, and give the lowest loss on held-out examples (stacked generalisation: Wolpert 1992; Breiman 1996). A share
of linear layers is a linear layer again, so what is trained, exported and served is one dense layer. Where the last
depth alone does as well, it gets the whole share, and no other depth is computed.
"""

import time
from typing import NamedTuple

import numpy as np

from kerasft.evaluation.scoring import one_standard_error_rule
from kerasft.probes import linear_probe
from kerasft.probes.linear_probe import Problem, Solution, Validation
from kerasft.probes.penalised_models import SoftTargets

# Standard errors of the paired difference by which several depths must be better than the last one alone.
DEPTH_STANDARD_ERRORS = 1.0

# A probe of a smaller share is left out.
MIN_SHARE = 0.02


# Part of the key of kept solutions. To be raised where `solve` comes to another kernel or bias.
STACK_VERSION = 2


class Row(NamedTuple):
    """A probe that was tried: of how many depths, its held-out loss and accuracy, its share, and its seconds."""

    depths: int
    loss: float
    accuracy: float | None
    share: float
    seconds: float


class Stacked(NamedTuple):
    """A solved last layer on the last depths.

    Attributes:
        depths: how many of the last depths it sees.
        solution: kernel float32 [D, C] for these depths side by side, earlier ones first; and bias.
        losses: float64 [n], of the stack for held-out examples; empty where nothing could be held out. They come in
            an order that the labels, the groups and the seed decide alone, so those of other features are paired with them.
        accuracy: of the stack for these; None but for single labels.
        rows: the probes that were tried.
    """

    depths: int
    solution: Solution
    losses: np.ndarray
    accuracy: float | None
    rows: list[Row]

    @property
    def loss(self) -> float:
        """The mean of the losses; NaN where nothing could be held out."""
        return float(self.losses.mean()) if len(self.losses) else float("nan")

    def to_arrays(self) -> dict[str, np.ndarray]:
        """What `from_arrays` needs."""
        rows = [[np.nan if value is None else value for value in row] for row in self.rows]
        accuracy = np.nan if self.accuracy is None else self.accuracy
        parts = {"depths": self.depths, "losses": self.losses, "accuracy": accuracy, "rows": np.array(rows, np.float64)}
        return {name: np.asarray(value) for name, value in (parts | self.solution._asdict()).items()}


def from_arrays(arrays: dict[str, np.ndarray]) -> Stacked:
    """The result that `to_arrays` gave."""
    rows = [
        Row(int(depths), loss, None if np.isnan(accuracy) else accuracy, share, seconds)
        for depths, loss, accuracy, share, seconds in arrays["rows"].tolist()
    ]
    solution = Solution(arrays["kernel"], arrays["bias"], str(arrays["penalty"]))
    accuracy = None if np.isnan(arrays["accuracy"]) else float(arrays["accuracy"])
    return Stacked(int(arrays["depths"]), solution, arrays["losses"], accuracy, rows)


def counts(depths: int) -> list[int]:
    """The numbers of depths that are tried: 1, 2, 4, 8 ... and all."""
    return sorted({min(2**power, depths) for power in range(depths.bit_length() + 1)})


def solve(
    features: np.ndarray,
    widths: list[int],
    labels: np.ndarray,
    outputs: int,
    task: str,
    seed: int,
    weights: np.ndarray | None = None,
    soft_targets: SoftTargets | None = None,
    groups: np.ndarray | None = None,
    *,
    forced: bool = False,
) -> Stacked:
    """Solves the last layer on the pooled activations of several depths.

    Args:
        features: float32 [N, D], standardised; the depths side by side, from the earliest to the last.
        widths: D of each depth.
        labels, outputs, task, seed, weights, soft_targets, groups: as in `linear_probe.solve`.
        forced: whether all depths are seen whatever the held-out examples say.
    """
    problems, validations, rows = [], [], []
    for count in counts(len(widths)):
        started = time.monotonic()
        seen = np.ascontiguousarray(features[:, sum(widths[: len(widths) - count]) :])
        with linear_probe.threads(seen, outputs):
            # The folds do not depend on the features. With groups, drawing them takes half a second.
            pairs = problems[0].folds if problems else None
            problem = linear_probe.pose(seen, labels, task, seed, weights, soft_targets, groups, pairs)
            found = linear_probe.validate(problem)
        problems.append(problem)
        validations.append(found)
        rows.append(_row(count, problem, found, time.monotonic() - started))
    shares, losses, accuracy = _shares(problems[0], validations, forced=forced)
    rows = [row._replace(share=round(float(share), 3)) for row, share in zip(rows, shares)]
    used = [place for place, share in enumerate(shares) if share > 0]
    depths = len(widths) if forced else rows[used[-1]].depths
    width = sum(widths[len(widths) - depths :])
    kernel, bias, penalties = np.zeros((width, outputs), np.float32), np.zeros(outputs, np.float32), []
    for place in used:
        with linear_probe.threads(problems[place].features.rows, outputs):
            part = linear_probe.solve_problem(problems[place], labels, outputs, task, validations[place].alpha)
        kernel[width - len(part.kernel) :] += shares[place] * part.kernel
        bias += shares[place] * part.bias
        penalties.append(part.penalty)
    return Stacked(depths, Solution(kernel, bias, ", ".join(penalties)), losses, accuracy, rows)


def _row(count: int, problem: Problem, found: Validation, seconds: float) -> Row:
    if not len(found.rows):
        return Row(count, float("nan"), None, 0.0, round(seconds, 3))
    accuracy = linear_probe.held_out_accuracy(problem, found.rows, found.outputs)
    return Row(count, float(found.losses.mean()), accuracy, 0.0, round(seconds, 3))


def _shares(
    problem: Problem, validations: list[Validation], *, forced: bool
) -> tuple[np.ndarray, np.ndarray, float | None]:
    """The share of each probe, float64 [K], and the held-out losses and accuracy of their sum.

    The last depth gets the whole where several are not measurably better. Under `forced`, where nothing could be held
    out, the probe of all depths gets it.
    """
    from scipy.optimize import minimize

    count, rows = len(validations), validations[0].rows
    alone = np.eye(count)[0]
    if not len(rows):
        return (np.eye(count)[-1] if forced else alone), np.empty(0), None
    outputs = np.stack([found.outputs for found in validations])

    def losses(shares: np.ndarray) -> np.ndarray:
        return linear_probe.held_out_losses(problem, rows, np.tensordot(shares, outputs, 1))

    sums_to_one = {"type": "eq", "fun": lambda shares: shares.sum() - 1}
    rules = {"method": "SLSQP", "bounds": [(0, 1)] * count, "constraints": [sums_to_one]}
    found = minimize(lambda shares: losses(shares).mean(), np.full(count, 1 / count), **rules).x
    found = np.where(found < MIN_SHARE, 0.0, found)
    found /= found.sum()
    if not forced and not one_standard_error_rule([losses(alone), losses(found)], DEPTH_STANDARD_ERRORS):
        found = alone
    accuracy = linear_probe.held_out_accuracy(problem, rows, np.tensordot(found, outputs, 1))
    return found, losses(found), accuracy
