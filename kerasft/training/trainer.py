"""Training: for each phase freeze, fit, and keep what is better on validation.

The state is saved after an epoch and at least every minute, so the same command goes on where a run was stopped.
"""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from kerasft.console import console
from kerasft.data.splits import Splits
from kerasft.evaluation import scoring
from kerasft.networks import layer_names
from kerasft.networks import network as networks
from kerasft.networks.depths import with_depths
from kerasft.networks.network import Network
from kerasft.settings import spec as specs
from kerasft.settings.config import Config
from kerasft.storage import feature_cache, run_folder
from kerasft.storage.resolved_settings import ResolvedSettings
from kerasft.storage.run_folder import History
from kerasft.strategies import auto, freezing, planning
from kerasft.strategies.phase import Phase
from kerasft.training import autotune, depth_choice, fitting, head_init, phase_inputs, weight_interpolation
from kerasft.training import setup as setup_of_run
from kerasft.training.checkpointer import Checkpointer
from kerasft.training.phase_inputs import PhaseInputs
from kerasft.training.phase_record import PhaseRecord
from kerasft.training.phase_run import PhaseRun
from kerasft.training.phase_table import show_phases
from kerasft.training.setup import TrainSetup
from kerasft.training.train_state import TrainState
from kerasft.training.weight_interpolation import Weights


@dataclass(frozen=True)
class Trained:
    """What training leaves, beside the weights in the network.

    Attributes:
        setup: what was trained.
        state: of the finished run: its identifier, what `auto` resolved, the records of the phases.
        validation_outputs: gives the network's outputs on the validation split, from cached features where the last
            phase had them; None where a resumed run had no phase left.
    """

    setup: TrainSetup
    state: TrainState
    validation_outputs: Callable[[], np.ndarray] | None


def train(config: Config, network: Network, splits: Splits, folder: Path, resolved: ResolvedSettings) -> Trained:
    """Trains a network in phases, or goes on with a stopped run.

    Args:
        config: the settings.
        network: its weights change.
        splits: the examples; test is not touched.
        folder: the run folder.
        resolved: weights, image size and precision. What is resolved here is added, and written before the first phase.

    Raises:
        UserError: from `--phases`, where a phase diverges again and again, or where the data of a stopped run have
            changed.
    """
    setup = setup_of_run.prepare(config, network, splits, folder)
    restored = None
    if resolved.features:
        setup = replace(setup, network=with_depths(network, config, tuple(resolved.features)))
        restored = Checkpointer(folder, setup.network.model).restore(splits.digest)
    if restored:
        state, arrays = restored
    else:
        setup, state, arrays = _start(replace(setup, network=network), resolved)
    network = setup.network
    checkpointer = Checkpointer(folder, network.model)
    if state.resolved.pixels:
        networks.set_pixel_statistics(network, *state.resolved.pixels)
    planned, setup = _plan(setup, state.resolved)
    show_phases([(phase, *freezing.apply(network, phase)) for phase in planned])
    if restored:
        console.say(f"going on where the run was stopped: {state.position(planned)}")
    history = History(folder / "history.jsonl", state.history_rows)
    inputs = None
    for index in range(state.phase, len(planned)):
        phase = planned[index]
        if phase.conditional:
            last = state.records[-1]
            if not auto.gained_enough(last.alpha, last.initial[0], last.final[0]):
                console.say("no further phase: the last one was not kept whole, or gained little")
                break
        trainable, frozen = freezing.apply(network, phase)
        run = _begin_phase(setup, planned, index, state, checkpointer, history, arrays)
        _run_phase(run, arrays)
        record = _finish_phase(run, trainable, frozen)
        state, inputs, arrays = state.after(record), run.inputs, {}
        checkpointer.save(state)
    freezing.release(network)
    return Trained(setup, state, inputs.outputs if inputs else None)


def _start(setup: TrainSetup, resolved: ResolvedSettings) -> tuple[TrainSetup, TrainState, dict[str, Weights]]:
    """A new run: its setup with the depths that the head sees, its state, and the probe's solution as `solution`."""
    config, network, splits = setup.config, setup.network, setup.splits
    if config.preprocessing == "dataset":
        resolved = replace(resolved, pixels=head_init.pixel_statistics(splits.train, network.size))
        networks.set_pixel_statistics(network, *resolved.pixels)
    choice = depth_choice.choose(config, network, splits, setup.cache, setup.example_weights)
    setup = replace(setup, network=choice.network)
    planned, _ = planning.plan(config, setup.network, len(splits.train))
    start = head_init.prepare(
        config,
        setup.network,
        splits,
        setup.scorer,
        setup.cache,
        setup.example_weights,
        solution=choice.solution,
        augmented=any(phase.epochs for phase in planned),
        head_first=not planned[0].trains_backbone,
    )
    resolved = replace(
        resolved,
        features=list(setup.network.depths),
        features_table=list(choice.table),
        features_reason=choice.reason,
        augment=start.augment,
        augment_reason=start.reason,
        speed=start.speed,
    )
    seconds = choice.seconds + start.seconds
    state = TrainState(uuid.uuid4().hex, splits.digest, resolved, seconds=seconds)
    return setup, state, {"solution": list(start.solution)} if start.solution else {}


def _plan(setup: TrainSetup, resolved: ResolvedSettings) -> tuple[list[Phase], TrainSetup]:
    """The phases, and the setup with the batch size that is resolved; `settled.json` is written.

    A resumed run takes what it began with.
    """
    config, network, count = setup.config, setup.network, len(setup.splits.train)
    if resolved.batch_size is None:
        longest = _longest(planning.plan(config, network, count)[0])
        choice = autotune.batch_size(config, network, longest, count)
        resolved.batch_size, resolved.batch_size_reason = choice.value, choice.reason
        _say_choice("batch size", choice)
    setup = setup_of_run.with_batch_size(setup, resolved.batch_size)
    setup = replace(setup, config=replace(config, batch_size=resolved.batch_size))
    planned = [planning.parse(text) for text in resolved.phases]
    if not planned:
        speed = None if config.deterministic else resolved.speed
        planned, reason = planning.plan(setup.config, network, count, speed)
        console.say(f"phases: {reason}")
        planned = _judgeable(setup, planned)
    if resolved.jit is None:
        steps = setup.steps_per_epoch * sum(phase.epochs for phase in planned if not phase.conditional)
        choice = autotune.compiled(config, network, _longest(planned), setup.batch_size, steps)
        resolved.jit, resolved.jit_reason = choice.value, choice.reason
        _say_choice("jit", choice)
    planned = [_with_augmentation(phase, resolved) for phase in planned]
    resolved.phases = [str(phase) for phase in planned]
    resolved.write(setup.folder)
    return planned, setup


def _longest(planned: list[Phase]) -> Phase | None:
    """The phase of most epochs among those that train the backbone: its steps are measured."""
    deep = [phase for phase in planned if phase.epochs and phase.trains_backbone]
    return max(deep, key=lambda phase: phase.epochs, default=None)


def _say_choice(name: str, choice: autotune.Choice) -> None:
    if choice.seconds:
        console.say(f"{name}: {choice.value} ({choice.reason})")


def _with_augmentation(phase: Phase, resolved: ResolvedSettings) -> Phase:
    automatic = [str(spec) for spec in phase.augment] == ["auto"]
    return replace(phase, augment=specs.parse(resolved.augment, "--augment")) if automatic else phase


def _judgeable(setup: TrainSetup, planned: list[Phase]) -> list[Phase]:
    """The phases that the validation split can judge; says so where it cannot."""
    solved, count = setup.network.head_init == "probe", len(setup.splits.val)
    found = weight_interpolation.judgeable(planned, count, solved=solved)
    if found != planned:
        kept = "the solved head" if solved else f"'{planned[0]}'"
        console.say(
            f"validation: {count} image{'s' * (count != 1)} cannot judge a phase "
            f"(needed: {scoring.MIN_VALIDATION_IMAGES}): {kept} is kept as it is, and nothing is trained after it"
        )
    return found


def _phase_inputs(setup: TrainSetup, name: str, phase: Phase, resolved: ResolvedSettings) -> PhaseInputs:
    """The inputs of a phase, as they were planned when it first began."""
    if name not in resolved.cached:
        plan = phase_inputs.plan(setup.network, setup.splits, phase, setup.cache)
        resolved.cached[name] = list(plan)
        resolved.write(setup.folder)
        if phase.epochs and phase.freezes:
            console.say(f"{name}: {plan.reason}" if plan.views else f"{name}: not cached, {plan.reason}")
    plan = phase_inputs.Plan(*resolved.cached[name])
    try:
        return phase_inputs.build(setup.network, setup.splits, phase, setup.config.seed, setup.cache, plan)
    except feature_cache.RangeError as error:
        plan = phase_inputs.plan(setup.network, setup.splits, phase, setup.cache, halved=False)
        resolved.cached[name] = list(plan)
        resolved.write(setup.folder)
        console.say(f"{name}: {error}; {plan.reason if plan.views else f'not cached, {plan.reason}'}")
        return phase_inputs.build(setup.network, setup.splits, phase, setup.config.seed, setup.cache, plan)


def _begin_phase(
    setup: TrainSetup,
    planned: list[Phase],
    index: int,
    state: TrainState,
    checkpointer: Checkpointer,
    history: History,
    arrays: dict[str, Weights],
) -> PhaseRun:
    """A phase at its start, or where a checkpoint left it."""
    phase, started = planned[index], time.monotonic() - state.seconds
    name = f"{index + 1:02d}-{phase.strategy}"
    inputs = _phase_inputs(setup, name, phase, state.resolved)
    weights = inputs.model.get_weights()
    return PhaseRun(
        setup=setup,
        phase=phase,
        name=name,
        first_epoch=sum(phase.epochs for phase in planned[:index]),
        inputs=inputs,
        state=state,
        checkpointer=checkpointer,
        history=history,
        initial=arrays.get("initial", weights),
        best=arrays.get("best", weights),
        last=arrays.get("last"),
        started=started,
    )


def _run_phase(run: PhaseRun, arrays: dict[str, Weights]) -> None:
    """Fits a phase to its end; the weights of its model are then those of its last epoch."""
    if "initial" not in arrays:
        run.state.initial_score = run.validate()
        if "solution" in arrays:
            _take_solution(run, arrays["solution"])
    if run.phase.epochs > run.state.epoch and not run.out_of_patience():
        fitting.fit(run, arrays.get("optimizer"), arrays.get("metrics"))


def _take_solution(run: PhaseRun, solution: Weights) -> None:
    """Gives the head the weights that the probe solved. A phase with epochs has to be better than these."""
    run.model.get_layer(layer_names.LOGITS).set_weights(solution)
    if run.phase.epochs:
        given = run.model, run.inputs.outputs, run.setup.scorer, run.initial, [run.model.get_weights()], (1.0,)
        run.state.initial_score = weight_interpolation.keep_best(*given).score or run.state.initial_score
        run.initial = run.model.get_weights()
    run.keep_if_best(run.validate())


def _finish_phase(run: PhaseRun, trainable: int, frozen: int) -> PhaseRecord:
    """Keeps what the phase is worth, and records it."""
    setup, phase, state = run.setup, run.phase, run.state
    alphas = phase.alphas if phase.epochs else (1.0,)
    given = run.model, run.inputs.outputs, setup.scorer, run.initial, run.candidates(), alphas
    kept = weight_interpolation.keep_best(*given)
    seconds = time.monotonic() - run.started
    images = state.epoch * setup.steps_per_epoch * setup.batch_size
    record = PhaseRecord(
        name=run.name,
        spec=str(phase),
        seconds=round(seconds, 3),
        epochs=state.epoch,
        images_per_second=round(images / seconds, 1),
        score=setup.scorer.name,
        initial=state.initial_score,
        final=kept.score or state.initial_score,
        alpha=kept.alpha,
        temperature=kept.temperature,
        views=run.inputs.views,
        trainable_parameters=trainable,
        frozen_parameters=frozen,
        lr_backoffs=state.lr_backoffs,
    )
    console.say(f"{run.name}: {record.sentence(setup.scorer.title)} ({seconds:.1f} s)")
    place = setup.folder / "phases" / run.name
    run_folder.write_json(place / "record.json", record.to_json())
    run_folder.write_by_name(place / "model.weights.h5", setup.network.model.save_weights)
    return record
