"""`--budget_minutes` in a run: a phase of `auto` is measured before it begins, and gets the epochs that fit."""

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from kerasft.console import console
from kerasft.console.wording import duration
from kerasft.data import pipeline
from kerasft.evaluation.score_names import MIN_VALIDATION_IMAGES
from kerasft.networks.multiplications import forward_work
from kerasft.settings.errors import counted
from kerasft.storage.resolved_settings import ResolvedSettings
from kerasft.strategies import auto, budget, caching, planning
from kerasft.strategies.budget import Allowance, Speed
from kerasft.strategies.phase import Phase
from kerasft.training import autotune, phase_inputs
from kerasft.training.train_setup import TrainSetup
from kerasft.training.train_state import TrainState

# So long are training steps timed.
SECONDS_OF_STEPS = 2.0

# Batches whose making is timed, after the first.
TIMED_BATCHES = 8


def record_start(resolved: ResolvedSettings, allowance: Allowance | None) -> None:
    """Notes what a new run has spent before its training begins."""
    if allowance:
        resolved.budget = {"before_training": round(time.monotonic() - allowance.started, 3)}


def resumed_allowance(allowance: Allowance | None, state: TrainState) -> Allowance | None:
    """The allowance of a run that goes on: earlier starts count, as if it had run in one go."""
    if allowance is None or state.resolved.budget is None:
        return allowance
    earlier = state.resolved.budget["before_training"] + state.phase_seconds
    return allowance._replace(started=allowance.started - earlier)


def warn(setup: TrainSetup, allowance: Allowance, planned: list[Phase], speed: float | None) -> None:
    """Says it where the phases that `--phases` names do not keep the budget. They are trained in full."""
    before = planned[: planning.count_before_auto(setup.config, setup.network)]
    named = [phase for phase in [*before, *_after_auto(setup, planned)] if phase.epochs]
    if not named:
        return
    seconds, found = _seconds_in_full(setup, named, speed)
    after = budget.seconds_after(_scored_images(setup), found, allowance.decoding)
    spent = time.monotonic() - allowance.started
    if spent + seconds + after > allowance.seconds:
        console.say(
            f"WARNING: --budget_minutes={setup.config.budget_minutes:g} will not be kept: {counted(len(named), 'phase')} of "
            f"--phases take about {duration(seconds)}, after {duration(spent)} until now and before about "
            f"{duration(after)} of evaluation and export. What is named is trained in full; auto would be shortened"
        )


def _after_auto(setup: TrainSetup, planned: list[Phase]) -> list[Phase]:
    """The phases that are named after `auto`; none where too few validation images left the first phase alone."""
    if len(setup.splits.val) < MIN_VALIDATION_IMAGES:
        return []
    return planned[len(planned) - planning.count_after_auto(setup.config) :]


def _seconds_in_full(setup: TrainSetup, phases: list[Phase], speed: float | None) -> tuple[float, Speed]:
    """The seconds of phases that have epochs, trained in full, and the speed of the last one."""
    seconds, found = 0.0, Speed(0.0, 0.0, 0.0)
    for phase in phases:
        found = measure(setup, phase, speed)(phase.epochs)
        seconds += budget.seconds_of_phase(phase, phase.epochs, setup.steps_per_epoch, len(setup.splits.val), found)
    return seconds, found


def _scored_images(setup: TrainSetup) -> int:
    """Test images, and their mirror images where `--tta` may average over them."""
    return len(setup.splits.test) * (1 if setup.config.tta == "none" else 2)


def shorten_to_budget(
    setup: TrainSetup, allowance: Allowance, planned: list[Phase], index: int, resolved: ResolvedSettings
) -> list[Phase]:
    """The plan with the phase of this index as long as the budget allows, or without it and all of `auto` after it.

    Only phases that `auto` chose change. Time is kept for those that are named after it. What changes is said, and written to `settled.json`.

    Args:
        planned: the phases of the run.
        index: of the phase that is about to begin.
        resolved: its `speed` counts, and its `phases` change.
    """
    phase, speed = planned[index], resolved.speed
    behind = _after_auto(setup, planned)
    chosen = range(planning.count_before_auto(setup.config, setup.network), len(planned) - len(behind))
    if not phase.epochs or index not in chosen:
        return planned
    # Where there is no time even for the passes over the test set, nothing need be measured.
    found, speed_of = Speed(0.0, 0.0, 1 / speed if speed else 0.0), None
    if index == 0 or _left(setup, allowance, found)[0] > 0:
        speed_of = measure(setup, phase, speed)
        found = speed_of(phase.epochs)
    left, after = _left(setup, allowance, found)
    left -= _seconds_in_full(setup, behind, speed)[0] if left > 0 else 0.0
    epochs, val = 0, len(setup.splits.val)
    if speed_of and (index == 0 or left > 0):
        epochs = budget.fitting_epochs(phase, setup.steps_per_epoch, val, speed_of, left, needed=index == 0)
    name, minutes = f"{index + 1:02d}-{phase.strategy}", f"--budget_minutes={setup.config.budget_minutes:g}"
    why = (
        f"{duration(max(left, 0.0))} left for it of {minutes}, after about {duration(after)} for evaluation and export"
    )
    if not epochs:
        console.say(f"budget: {name} is not begun, for too few of its {counted(phase.epochs, 'epoch')} fit: {why}")
        changed = [*planned[:index], *behind]
    elif epochs < phase.epochs:
        console.say(f"budget: {name} has {epochs} of {counted(phase.epochs, 'epoch')}: {why}")
        changed = [*planned[:index], replace(phase, epochs=epochs), *planned[index + 1 :]]
    else:
        return planned
    resolved.phases = [str(phase) for phase in changed]
    resolved.write(setup.folder)
    return changed


def say_overdrawn(minutes: float | None, seconds: float) -> None:
    """Says it where a run took clearly longer than its budget. What is done without any training takes its time, too."""
    if minutes and seconds > budget.TOLERANCE * 60 * minutes:
        console.say(f"budget: this start took {duration(seconds)}, more than --budget_minutes={minutes:g}")


def _left(setup: TrainSetup, allowance: Allowance, speed: Speed) -> tuple[float, float]:
    """Seconds that are left for training, and those that come after it."""
    after = budget.seconds_after(_scored_images(setup), speed, allowance.decoding)
    return allowance.seconds - (time.monotonic() - allowance.started) - after, after


def measure(setup: TrainSetup, phase: Phase, speed: float | None) -> Callable[[int], Speed]:
    """Times training steps and the making of their batches; the network is left as it was.

    Args:
        speed: images a second of a forward pass, where it was measured. It counts where a part is frozen.

    Returns:
        The speed of the phase by the number of its epochs, which decides how its inputs are cached.
    """
    network, batch = setup.network, setup.batch_size
    tracing, step = autotune.time_step(network, phase, batch, SECONDS_OF_STEPS)
    scale = ((phase.image_size or network.size) / network.size) ** 2
    image = step / (batch * scale * auto.FORWARD_PASSES_PER_STEP)
    if phase.freezes and speed:
        image = max(image, 1 / speed)
    made = _seconds_of_batch(setup, phase)
    made += _seconds_of_answers(setup) + made if setup.teacher else 0.0
    train, val = len(setup.splits.train), len(setup.splits.val)
    halves, _ = caching.cacheable_halves(network, phase)

    def speed_of(epochs: int) -> Speed:
        shortened = replace(phase, epochs=epochs)
        views = caching.views_of_half(network, halves[0], shortened, train, val) if halves else 0
        if not views:
            return Speed(tracing, step + made, image)
        # What is frozen is computed once for each cached augmentation, and steps train the rest.
        share = forward_work(halves[0]) / forward_work(network.model)
        behind = auto.FORWARD_PASSES_PER_STEP * (1 - share)
        ahead = share * (views * train + val) * image + views * train / batch * made
        return Speed(tracing, step * behind / (share + behind), image, ahead, 1 - share)

    return speed_of


def _seconds_of_batch(setup: TrainSetup, phase: Phase) -> float:
    """Seconds of the cores for the images of a step, where nothing waits for them."""
    load = phase_inputs.images(setup.network, setup.splits, phase, setup.config.seed).load
    given = {"batch_size": setup.batch_size, "seed": setup.config.seed, "first_step": 0}
    batches = iter(pipeline.training_stream(setup.splits.train.labels, load, **given, last_step=1 + TIMED_BATCHES))
    next(batches)
    started = time.monotonic()
    for _ in batches:
        pass
    # On a device of its own, the network does not wait for the cores that make the next batch.
    return 0.0 if autotune.on_accelerator() else (time.monotonic() - started) / TIMED_BATCHES


def _seconds_of_answers(setup: TrainSetup) -> float:
    """Seconds of the teacher for the images of a step. It answers them before the phase, and so needs them made once more."""
    size, predict = setup.network.size, setup.teacher.prefix.predict
    images = np.zeros((setup.batch_size, size, size, 3), np.float32)
    # The first call traces the graph.
    predict([images])
    started = time.monotonic()
    predict([images])
    return time.monotonic() - started
