"""The fit of one phase, to its end: what is compiled, what is fed, and what is done when it diverges or does not fit into memory."""

import time

import keras
import tensorflow as tf

from kerasft.console import console
from kerasft.data import pipeline
from kerasft.optimization import losses, optimizers
from kerasft.settings.errors import UserError
from kerasft.strategies import planning
from kerasft.strategies.phases import Phase
from kerasft.training import phase_inputs, signals, train_state
from kerasft.training.callbacks import PhaseCallback
from kerasft.training.weight_interpolation import Weights

MAX_LR_BACKOFFS = 3  # at a lower rate, after a phase has diverged
LR_BACKOFF_FACTOR = 0.3  # times the rate before
MAX_STEPS_PER_CALL = 64  # steps at the most that one call does
MAX_SECONDS_PER_CALL = 0.2  # seconds that such a call may take: a signal waits for its end
ASSUMED_MACS_PER_SECOND = 1e10  # multiplications a second, where no forward pass was measured
MIN_STEPS_TO_TIME_INPUT = 100  # steps that a phase must have for its feeding to be measured before


def fit(
    trainer,
    name: str,
    phase: Phase,
    first_epoch: int,
    optimizer_state: Weights | None,
    running: Weights | None = None,
) -> None:
    """Trains to the end of a phase, from where the trainer stands.

    Where the phase diverges, it falls back to its best weights, at a lower rate; where a step does not fit into the
    device's memory, a step becomes two half ones whose gradients are averaged (gradient accumulation).

    Args:
        trainer: the `trainer.Trainer`, whose feed is the phase's.
        first_epoch: epochs of the phases before.
        optimizer_state: of a run that goes on.
        running: variables of the metrics, where that is in the middle of an epoch: the sums that its loss is of.

    Raises:
        UserError: it has diverged at each of `MAX_LR_BACKOFFS` lower rates, or not even one picture fits into memory.
    """
    state, model = trainer.state, trainer.inputs.model
    if not trainer.inputs.stateless:
        console.say("note: Keras augmentation layers draw numbers of their own: no exact resume, no equal runs")
    bar = console.Bar(name, phase.epochs * trainer.steps, state.epoch * trainer.steps + state.step)
    boards = []
    if trainer.config.tensorboard:
        folder = trainer.folder / "tensorboard" / name
        boards.append(keras.callbacks.TensorBoard(folder, write_graph=False, profile_batch=0))
    try:
        with signals.deferred() as stopping:
            watch = PhaseCallback(trainer, name, first_epoch, stopping)
            watch.running = running
            if phase.epochs * trainer.steps >= MIN_STEPS_TO_TIME_INPUT and not trainer.inputs.views:
                watch.fed = _speed(trainer, first_epoch)
            while True:
                watch.plateau, watch.lr = _compile(trainer, phase, optimizer_state)
                callbacks = [watch, bar, *boards]
                try:
                    if state.step:  # the rest of an epoch that was stopped
                        _epochs(trainer, first_epoch, state.epoch + 1, callbacks)
                    if state.epoch < phase.epochs and not model.stop_training:
                        _epochs(trainer, first_epoch, phase.epochs, callbacks)
                except tf.errors.ResourceExhaustedError as error:
                    _halve_micro_batch(trainer, name, error)
                else:
                    if not watch.diverged:
                        break
                    _back_off(trainer, name, phase)
                state.step, optimizer_state, watch.running, watch.diverged = 0, None, None, False
                state.begun = state.epoch * trainer.steps
                model.set_weights(trainer.best_weights)
                trainer.save({"first": trainer.first_weights, "best": trainer.best_weights})
    finally:
        bar.stop()


def _compile(trainer, phase: Phase, restored: Weights | None) -> tuple[optimizers.Plateau | None, float]:
    """Gives the model its optimizer and loss; what lowers the rate on a plateau, and the rate it began with."""
    state, model = trainer.state, trainer.inputs.model
    lr, steps = phase.lr * LR_BACKOFF_FACTOR**state.lr_backoffs, trainer.steps * phase.epochs
    given = phase.optimizer, phase.schedule, lr, steps, trainer.average, model
    built, plateau = optimizers.build(*given, state.micro_batches, state.begun)
    if restored:
        train_state.assign(built.variables, restored)
    elif plateau:
        built.learning_rate = plateau.rate(lr, state.losses)
    loss = losses.build(phase.loss, trainer.network.task, trainer.scale, mixed=trainer.inputs.mixed)
    together = _steps_per_call(trainer)
    model.compile(built, loss, jit_compile=state.settled["jit"] == "on", steps_per_execution=together)
    model.stop_training = False
    return plateau, lr


def _steps_per_call(trainer) -> int:
    """Steps that one call does: where a step takes hardly more time than its call, several, a divisor of an epoch's."""
    inputs, steps, state = trainer.inputs, trainer.steps, trainer.state
    speed = None if trainer.config.deterministic else state.settled["speed"]
    if state.micro_batches > 1 or state.step or not (inputs.views or speed):
        return 1
    rate = speed * phase_inputs.count_macs(trainer.network.model) if speed else ASSUMED_MACS_PER_SECOND
    most = min(
        MAX_STEPS_PER_CALL,
        steps,
        MAX_SECONDS_PER_CALL
        * rate
        / (planning.FORWARD_PASSES_PER_STEP * trainer.batch * phase_inputs.count_macs(inputs.model)),
    )
    return max([n for n in range(1, int(most) + 1) if steps % n == 0], default=1)


def _stream(trainer, first_step: int, last_step: int) -> tf.data.Dataset:
    config = trainer.config
    return pipeline.training_stream(
        trainer.splits.train.labels,
        trainer.inputs.load,
        batch_size=trainer.batch,
        seed=config.seed,
        sampling=config.sampling,
        weights=trainer.weights,
        first_step=first_step,
        last_step=last_step,
        micro_batches=trainer.state.micro_batches,
    )


def _epochs(trainer, first_epoch: int, last: int, callbacks: list) -> None:
    """Goes on to the end of epoch `last` of the phase; all epochs but the first are whole ones."""
    done, step, micro_batches = trainer.state.epoch, trainer.state.step, trainer.state.micro_batches
    stream = _stream(trainer, (first_epoch + done) * trainer.steps + step, (first_epoch + last) * trainer.steps)
    span = {"initial_epoch": done, "epochs": last, "steps_per_epoch": (trainer.steps - step) * micro_batches}
    trainer.inputs.model.fit(stream, **span, callbacks=callbacks, shuffle=False, verbose=0)


def _speed(trainer, first_epoch: int, seconds: float = 1.0) -> float:
    """Pictures a second that the phase's stream gives where nothing waits for it."""
    first = first_epoch * trainer.steps
    batches = iter(_stream(trainer, first, first + MIN_STEPS_TO_TIME_INPUT))
    next(batches)
    started, count = time.monotonic(), 0
    for _ in batches:
        count += 1
        if time.monotonic() - started > seconds:
            break
    return count * trainer.batch / trainer.state.micro_batches / (time.monotonic() - started)


def _halve_micro_batch(trainer, name: str, error: Exception) -> None:
    """Notes that a step is to be done in twice as many parts."""
    state = trainer.state
    micro_batches = next((n for n in range(2 * state.micro_batches, trainer.batch + 1) if trainer.batch % n == 0), None)
    if micro_batches is None:
        rule = f"{name} does not fit into memory, one picture at a time; take a smaller --image_size or --backbone"
        raise UserError(f"--batch_size: {rule}. Received: {trainer.batch}") from error
    state.micro_batches = micro_batches
    console.say(
        f"  {name}: out of memory; steps of {trainer.batch} in parts of {trainer.batch // micro_batches}, gradients averaged"
    )


def _back_off(trainer, name: str, phase: Phase) -> None:
    """Notes that the phase goes on at a lower rate."""
    state = trainer.state
    rates = [f"{phase.lr * LR_BACKOFF_FACTOR**i:.2g}" for i in range(state.lr_backoffs + 1)]
    if state.lr_backoffs == MAX_LR_BACKOFFS:
        rule = f"{name} diverged at each of the rates {', '.join(rates)}; give it a lower lr="
        raise UserError(f"--phases: {rule}. Received: '{phase}'")
    state.lr_backoffs += 1
    console.say(
        f"  {name}: the loss blew up at a rate of {rates[-1]}: back to the best weights so far, at {LR_BACKOFF_FACTOR:g} of it"
    )
