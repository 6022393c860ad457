"""The fit of one phase: what is compiled, what feeds it, and what is done when it diverges or does not fit into memory."""

import time

import keras
import tensorflow as tf

from kerasft.console import console
from kerasft.networks import layer_names
from kerasft.networks.multiplications import forward_work
from kerasft.optimization import distillation, losses, optimizers, sharpness_aware
from kerasft.optimization.adaptive_clipping import clip_adaptively
from kerasft.optimization.blending_optimizer import raise_with_steps
from kerasft.optimization.l2sp import pull_to_start
from kerasft.optimization.rate_multipliers import multiply_rates
from kerasft.optimization.schedules import Plateau
from kerasft.settings.errors import UserError
from kerasft.strategies import layer_rates
from kerasft.strategies.auto import FORWARD_PASSES_PER_STEP
from kerasft.training import deferred_signals, phase_health
from kerasft.training.callbacks import PhaseCallback
from kerasft.training.checkpointer import assign
from kerasft.training.health_callback import HealthCallback
from kerasft.training.phase_run import PhaseRun
from kerasft.training.progress_bar import ProgressBar
from kerasft.training.train_setup import loss_of
from kerasft.training.weight_interpolation import Weights

# Times that a phase that diverges goes on at a lower rate, and the factor between two rates.
MAX_LR_BACKOFFS = 3
LR_BACKOFF_FACTOR = 0.3

# Steps and seconds of one call at most: a signal waits for its end.
MAX_STEPS_PER_CALL = 64
MAX_SECONDS_PER_CALL = 0.2

# Work a second (`forward_work`), where no forward pass was measured.
ASSUMED_WORK_PER_SECOND = 3e10

# Steps that an input stream must have for its speed to be measured first.
MIN_STEPS_TO_TIME_INPUT = 100


def fit(run: PhaseRun, optimizer_state: Weights | None = None, metrics_state: Weights | None = None) -> None:
    """Fits a phase to its end, from where its state stands.

    A phase that diverges goes back to its best weights and goes on at a lower rate. A step that does not fit into
    memory is done in micro-batches whose gradients are averaged.

    Args:
        run: its state, best and last weights change.
        optimizer_state: of a resumed run.
        metrics_state: variables of the metrics, where a run is resumed in the middle of an epoch.

    Raises:
        UserError: the phase has diverged at each of the lower rates, or not even one image fits into memory.
    """
    state, steps_per_epoch = run.state, run.setup.steps_per_epoch
    if not run.inputs.stateless:
        console.say("note: Keras's augmentation layers draw their own random numbers: no exact resume, no equal runs")
    if losses.orders_classes(run.phase.loss, run.setup.network.task):
        console.say(f"  {run.name}: the ordinal loss takes the classes for {' < '.join(run.setup.splits.classes)}")
    bar = ProgressBar(run.name, run.steps, state.epoch * steps_per_epoch + state.step)
    boards = []
    if run.setup.config.tensorboard:
        folder = run.setup.folder / "tensorboard" / run.name
        boards.append(keras.callbacks.TensorBoard(folder, write_graph=False, profile_batch=0))
    try:
        with deferred_signals.deferred() as stop_requested:
            callback, health = PhaseCallback(run, stop_requested, metrics_state), HealthCallback(run)
            callback.times_input = not run.inputs.views
            while True:
                callback.plateau, callback.lr = _compile(run, optimizer_state)
                # The checkpoint that the second one writes holds what the first one has measured.
                callbacks = [health, callback, bar, *boards]
                try:
                    # First the rest of an epoch that was stopped, then whole epochs.
                    if state.step:
                        _fit_epochs(run, state.epoch + 1, callback, callbacks)
                    if state.epoch < run.phase.epochs and not run.model.stop_training:
                        _fit_epochs(run, run.phase.epochs, callback, callbacks)
                except tf.errors.ResourceExhaustedError as error:
                    split_step(run, error)
                else:
                    if not callback.diverged:
                        break
                    _back_off(run)
                optimizer_state, callback.metrics_state, callback.diverged = None, None, False
                state.step = 0
                state.optimizer_start = state.epoch * steps_per_epoch
                run.model.set_weights(run.best)
                run.checkpointer.save(state, {"initial": run.initial, "best": run.best} | run.own_variables())
    finally:
        bar.stop()


def _compile(run: PhaseRun, optimizer_state: Weights | None) -> tuple[Plateau | None, float]:
    """Compiles the model of a phase.

    Returns:
        What lowers the rate on a plateau, and the rate that it began with.
    """
    state, phase, setup = run.state, run.phase, run.setup
    lr = phase.lr * LR_BACKOFF_FACTOR**state.lr_backoffs
    specs = phase.optimizer, phase.schedule, lr, run.steps, setup.average, run.model
    optimizer, plateau = optimizers.build(*specs, state.micro_batches, state.optimizer_start)
    apply_attributes(run, getattr(optimizer, "inner_optimizer", optimizer))
    if optimizer_state:
        assign(optimizer.variables, optimizer_state)
    elif plateau:
        optimizer.learning_rate = plateau.rate(lr, state.losses)
    steps = _steps_per_call(run)
    run.model.compile(optimizer, build_loss(run), jit_compile=state.resolved.jit == "on", steps_per_execution=steps)
    run.model.stop_training = False
    return plateau, lr


def apply_attributes(run: PhaseRun, optimizer: keras.optimizers.Optimizer) -> None:
    """Applies the phase's optimizer attributes: rate multipliers, L2-SP, adaptive clipping, blending, SAM."""
    model, phase = run.model, run.phase
    multiply_rates(optimizer, layer_rates.multipliers(run.setup.network, phase, model))
    initial = {id(variable): value for variable, value in zip(model.weights, run.initial)}
    pull_to_start(optimizer, phase.l2sp, [initial[id(variable)] for variable in model.trainable_variables])
    # Brock et al. leave the last layer out.
    last = model.get_layer(layer_names.LOGITS).trainable_variables
    clip_adaptively(optimizer, phase.agc, model._flatten_layers(), last)
    raise_with_steps(optimizer, [(blend.share, blend.steps) for blend in run.blends], run.state.micro_batches)
    # The model may be that of a phase before, which had a step of its own.
    vars(model).pop("train_step", None)
    if phase.sam:
        vars(model)["train_step"] = sharpness_aware.make_train_step(model, phase.sam)


def build_loss(run: PhaseRun) -> losses.Loss:
    """The loss of a phase, for its inputs and the labels of the training split."""
    setup, task = run.setup, run.setup.network.task
    own = loss_of(setup, run.phase.loss, mixed=run.inputs.mixed)
    if setup.teacher is None:
        return own
    asked = setup.teacher.asked
    return distillation.build(
        own,
        task,
        outputs=len(setup.splits.classes),
        temperature=asked.temperature,
        weight=asked.weight,
        scale=setup.scorer.scale,
        mixed=run.inputs.mixed,
        projection=run.inputs.projection,
        features_weight=asked.features_weight,
        partly_labelled=setup.splits.unlabelled is not None,
    )


def _steps_per_call(run: PhaseRun) -> int:
    """Steps of one call, a divisor of an epoch's: several, where a step takes hardly more time than its call."""
    setup, state = run.setup, run.state
    speed = None if setup.config.deterministic else state.resolved.speed
    if state.micro_batches > 1 or state.step or not (run.inputs.views or speed):
        return 1
    work_per_second = speed * forward_work(setup.network.model) if speed else ASSUMED_WORK_PER_SECOND
    work_per_step = FORWARD_PASSES_PER_STEP * setup.batch_size * forward_work(run.model)
    most = min(MAX_STEPS_PER_CALL, setup.steps_per_epoch, MAX_SECONDS_PER_CALL * work_per_second / work_per_step)
    return max([n for n in range(1, int(most) + 1) if setup.steps_per_epoch % n == 0], default=1)


def _fit_epochs(
    run: PhaseRun, last_epoch: int, callback: PhaseCallback, callbacks: list[keras.callbacks.Callback]
) -> None:
    """Fits to the end of an epoch of the phase; all epochs but the first are whole ones.

    Args:
        callback: one of `callbacks`; it gets the speed of the input stream if it wants it.
    """
    state, per_epoch = run.state, run.setup.steps_per_epoch
    first_step = (run.first_epoch + state.epoch) * per_epoch + state.step
    last_step = (run.first_epoch + last_epoch) * per_epoch
    stream = run.stream(first_step, last_step)
    # The rest of an epoch that was stopped may be too short, and whole epochs follow it.
    if callback.times_input and last_step - first_step >= MIN_STEPS_TO_TIME_INPUT:
        callback.input_speed, callback.times_input = _input_speed(run, stream), False
    span = {"initial_epoch": state.epoch, "epochs": last_epoch}
    span |= {"steps_per_epoch": (per_epoch - state.step) * state.micro_batches}
    run.model.fit(stream, **span, callbacks=callbacks, shuffle=False, verbose=0)


def _input_speed(run: PhaseRun, stream: tf.data.Dataset, seconds: float = 0.3) -> float:
    """Images a second that the input stream gives, where nothing waits for it."""
    batches = iter(stream.take(MIN_STEPS_TO_TIME_INPUT * run.state.micro_batches))
    next(batches)
    started, count = time.monotonic(), 0
    for _ in batches:
        count += 1
        if time.monotonic() - started > seconds:
            break
    return count * run.setup.batch_size / run.state.micro_batches / (time.monotonic() - started)


def split_step(run: PhaseRun, error: Exception) -> None:
    """Lets a step be done in at least twice as many micro-batches."""
    state, batch = run.state, run.setup.batch_size
    parts = next((n for n in range(2 * state.micro_batches, batch + 1) if batch % n == 0), None)
    if parts is None:
        rule = f"{run.name} does not fit into memory, one image at a time; take a smaller --image_size or --backbone"
        raise UserError(f"--batch_size: {rule}. Received: {batch}") from error
    state.micro_batches = parts
    console.say(f"  {run.name}: out of memory; steps of {batch} in parts of {batch // parts}, gradients averaged")


def _back_off(run: PhaseRun) -> None:
    """Lets the phase go on at a lower rate."""
    state, phase = run.state, run.phase
    rates = [f"{phase.lr * LR_BACKOFF_FACTOR**i:.2g}" for i in range(state.lr_backoffs + 1)]
    if state.lr_backoffs == MAX_LR_BACKOFFS:
        phase_health.say(run.name, phase_health.conclude(state.health, state.lr_backoffs))
        rule = f"{run.name} diverged at each of the rates {', '.join(rates)}; give it a lower lr="
        raise UserError(f"--phases: {rule}. Received: '{phase}'")
    state.lr_backoffs += 1
    console.say(
        f"  {run.name}: the loss blew up at a rate of {rates[-1]}: back to the best weights so far, "
        f"at {LR_BACKOFF_FACTOR:g} of it"
    )
