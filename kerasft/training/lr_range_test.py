"""The learning-rate range test: a phase is trained at rising rates, and the loss tells which are good."""

import math
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from kerasft.optimization import optimizers
from kerasft.settings.spec import Spec
from kerasft.training import fitting
from kerasft.training.phase_run import PhaseRun

# The first and the last rate, and the steps from one to the other.
FIRST_RATE, LAST_RATE, STEPS = 1e-6, 1.0, 100

# The test ends where the smoothed loss is this many times its lowest.
MAX_LOSS_RATIO = 4.0

# Share that the smoothed loss keeps of itself in a step, for the end of the test.
MOMENTUM = 0.9

# Steps on each side that are averaged with a step, for the suggestion: so no rate is named too late.
HALF_WINDOW = 5

# Steps at the lowest rates, which teach nothing: their losses tell how much batches differ. A test needs twice as many.
QUIET_STEPS = 20

# The loss has fallen, or risen, where it is so many standard errors from that of the quiet steps: the farthest of many.
STANDARD_ERRORS = 3.0

# The descent begins where the loss has fallen by this share of its whole fall.
DESCENT_BEGINS = 0.1


class RangeTest(NamedTuple):
    """What was found.

    Attributes:
        rates, losses: one a step.
        smoothed: mean of the losses around each step.
        middle: rate in the middle of the descent, between where the loss begins to fall and where it is lowest; None
            where it does not fall.
        steepest: rate at which the loss falls fastest by the logarithm of the rate; None as before.
        harmless: the highest rate at which the loss has not risen; None where each rate raises it.
        suggestion: `middle`, or else a tenth of `harmless`; None where there is neither.
    """

    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    middle: float | None
    steepest: float | None
    harmless: float | None
    suggestion: float | None

    def to_json(self) -> dict[str, Any]:
        """The content of `lr_find.json`, without the phases. A loss that is not finite is None."""
        finite = {
            name: [v if math.isfinite(v) else None for v in getattr(self, name)] for name in ("losses", "smoothed")
        }
        return {**self._asdict(), **finite}


class _Rising(keras.callbacks.Callback):
    """Sets the rate of each step, notes its loss, and ends the fit where the loss has blown up."""

    def __init__(self, micro_batches: int):
        super().__init__()
        self.micro_batches, self.losses, self._average, self._lowest = micro_batches, [], 0.0, math.inf

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        if batch % self.micro_batches == 0:
            self.model.optimizer.learning_rate = rate(batch // self.micro_batches)
            # So the running mean that Keras logs is that of this step.
            self.model.reset_metrics()

    def on_train_batch_end(self, batch: int, logs: dict) -> None:
        if (batch + 1) % self.micro_batches:
            return
        self.losses.append(float(logs["loss"]))
        self._average = MOMENTUM * self._average + (1 - MOMENTUM) * self.losses[-1]
        smoothed = self._average / (1 - MOMENTUM ** len(self.losses))
        self._lowest = min(self._lowest, smoothed)
        if not smoothed <= MAX_LOSS_RATIO * self._lowest:
            self.model.stop_training = True


def rate(step: int) -> float:
    """The rate of a step, rising exponentially (Smith 2017, with the exponential steps of fastai)."""
    return FIRST_RATE * (LAST_RATE / FIRST_RATE) ** (step / (STEPS - 1))


def measure(run: PhaseRun) -> RangeTest:
    """Trains a phase for up to `STEPS` steps, each at a higher rate, with its own optimizer, loss and images.

    The weights of its model are as before afterwards. A step that does not fit into memory is done in micro-batches.

    Args:
        run: at its start. Its state counts the micro-batches.

    Raises:
        UserError: not even one image fits into memory.
    """
    before = run.model.get_weights()
    while True:
        rising = _Rising(run.state.micro_batches)
        try:
            _fit(run, rising)
        except tf.errors.ResourceExhaustedError as error:
            fitting.split_step(run, error)
        else:
            break
        finally:
            run.model.set_weights(before)
    return read([rate(step) for step in range(len(rising.losses))], rising.losses)


def _fit(run: PhaseRun, rising: _Rising) -> None:
    phase, state = run.phase, run.state
    given = phase.optimizer, Spec("constant"), FIRST_RATE, STEPS, (), run.model, state.micro_batches
    optimizer, _ = optimizers.build(*given)
    run.model.compile(optimizer, fitting.build_loss(run), jit_compile=state.resolved.jit == "on")
    run.model.stop_training = False
    calls = STEPS * state.micro_batches
    first = run.first_epoch * run.setup.steps_per_epoch
    run.model.fit(run.stream(first, first + STEPS), steps_per_epoch=calls, callbacks=[rising], shuffle=False, verbose=0)


def read(rates: list[float], losses: list[float]) -> RangeTest:
    """Reads a suggestion from the losses at rising rates.

    Args:
        rates, losses: one a step. The last loss may not be finite.
    """
    values = np.array(losses)
    smoothed = np.array([_around(values, step) for step in range(len(values))])
    # Only where as many steps are averaged on both sides: the ends are single losses.
    inner = np.arange(HALF_WINDOW, len(values) - HALF_WINDOW)
    middle = steepest = harmless = None
    if len(values) > 2 * QUIET_STEPS:
        quiet, curve = values[:QUIET_STEPS], np.where(np.isfinite(smoothed), smoothed, np.inf)[inner]
        start, error = quiet.mean(), quiet.std() * math.sqrt(1 / len(quiet) + 1 / (2 * HALF_WINDOW + 1))
        room = STANDARD_ERRORS * error
        calm = np.flatnonzero(curve <= start + room)
        harmless = rates[inner[calm[-1]]] if len(calm) else None
        lowest = int(np.argmin(curve))
        if lowest and curve[lowest] < start - room:
            # From the last step where the loss has hardly fallen yet.
            higher = np.flatnonzero(curve[:lowest] >= start - max(room, DESCENT_BEGINS * (start - curve[lowest])))
            begin = int(higher[-1]) if len(higher) else 0
            middle = rates[inner[(begin + lowest) // 2]]
            steepest = rates[inner[begin + np.argmin(np.gradient(curve[begin : lowest + 1]))]]
    suggestion = middle if middle is not None else None if harmless is None else harmless / 10
    return RangeTest(rates, losses, smoothed.tolist(), middle, steepest, harmless, suggestion)


def _around(values: np.ndarray, step: int) -> float:
    """The mean of a step and of equally many before and after it."""
    half = min(HALF_WINDOW, step, len(values) - 1 - step)
    return float(values[step - half : step + half + 1].mean())
