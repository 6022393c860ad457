"""Training: for each phase freeze, fit, and keep what is better on validation.

The state is saved after an epoch and at least every minute, so the same command goes on where a run was stopped.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from kerasft.console import console
from kerasft.data.representative_images import calibration_images
from kerasft.data.splits import Splits
from kerasft.networks import blending, layer_names
from kerasft.networks.network import Network
from kerasft.settings.config import Config
from kerasft.storage import run_folder
from kerasft.storage.resolved_settings import ResolvedSettings
from kerasft.storage.run_folder import History
from kerasft.strategies import auto, freezing, variables
from kerasft.strategies.budget import Allowance
from kerasft.strategies.phase import Phase
from kerasft.training import (
    block_choice,
    budgeting,
    fitting,
    input_caching,
    phase_health,
    phase_inputs,
    resolve,
    run_start,
    soup,
    train_setup,
    weight_interpolation,
)
from kerasft.training.checkpointer import Checkpointer, assign
from kerasft.training.phase_inputs import PhaseInputs
from kerasft.training.phase_record import PhaseRecord
from kerasft.training.phase_run import PhaseRun
from kerasft.training.phase_table import show_phases
from kerasft.training.run_start import Begun
from kerasft.training.train_setup import TrainSetup
from kerasft.training.train_state import TrainState
from kerasft.training.weight_interpolation import Weights


@dataclass(frozen=True)
class Trained:
    """What training leaves, apart from the weights in the network.

    Attributes:
        setup: what was trained.
        state: of the finished run: its identifier, what `auto` resolved, the records of the phases.
        validation_outputs: gives the network's outputs on the validation split, from cached features where the last
            phase had them; None where a resumed run had no phase left, or the last one trained a changed network.
        solution: kernel and bias of the probe, where it was solved; None in a resumed run.
        solution_seconds: of the probe, with the choices that it was asked for and the features.
        earlier_seconds: of earlier starts of the run, until the checkpoint from which it went on.
    """

    setup: TrainSetup
    state: TrainState
    validation_outputs: Callable[[], np.ndarray] | None
    solution: Weights | None = None
    solution_seconds: float = 0.0
    earlier_seconds: float = 0.0


def train(
    config: Config,
    network: Network,
    splits: Splits,
    folder: Path,
    resolved: ResolvedSettings,
    allowance: Allowance | None = None,
    began: float | None = None,
) -> Trained:
    """Trains a network in phases, or goes on with a stopped run.

    Args:
        config: the settings.
        network: its weights change.
        splits: the examples; test is not touched.
        folder: the run folder.
        resolved: weights, image size and precision. What is resolved here is added, and written before the first phase.
        allowance: of `--budget_minutes`; None without it.
        began: moment of the monotonic clock at which this start of the run began; by default now.

    Raises:
        UserError: from `--phases`, where a phase diverges again and again, or where the data of a stopped run have
            changed.
    """
    began = time.monotonic() if began is None else began
    begun = run_start.start_or_resume(config, network, splits, folder, resolved, allowance, began)
    setup, state, resumed = begun.setup, begun.state, begun.resumed
    planned, setup = resolve.plan_phases(setup, state.resolved)
    phase_setup = train_setup.with_unlabelled_train(setup)
    show_phases([(one, *freezing.apply(variables.phase_network(setup.network, one), one)) for one in planned])
    if begun.allowance and not resumed:
        budgeting.warn(phase_setup, begun.allowance, planned, state.resolved.speed)
    if resumed:
        console.say(f"going on where the run was stopped: {state.position(planned)}")
    state, inputs = _train_phases(begun, setup, phase_setup, planned)
    freezing.release(setup.network)
    soup.remove(folder)
    outputs = inputs.outputs if inputs else None
    return Trained(setup, state, outputs, begun.solution, begun.solution_seconds, begun.earlier_seconds)


def _train_phases(
    begun: Begun, setup: TrainSetup, phase_setup: TrainSetup, planned: list[Phase]
) -> tuple[TrainState, PhaseInputs | None]:
    """Trains the phases that are left.

    Args:
        setup: of the run.
        phase_setup: of its phases, with the images of `--unlabelled`.
        planned: all phases of the run. Their lengths and blocks are set here, where they depend on what went before.

    Returns:
        The state after the last phase, and its inputs; None where no phase was left, or it trained a changed network.
    """
    state, arrays, saver, allowance = begun.state, begun.arrays, begun.saver, begun.allowance
    folder, inputs = setup.folder, None
    history = History(folder / "history.jsonl", state.history_rows)
    while (index := state.phase) < len(planned):
        if planned[index].conditional:
            last = state.records[-1]
            if not auto.gained_enough(last.alpha, last.initial[0], last.final[0]):
                name = f"{index + 1:02d}-{planned[index].strategy}"
                console.say(f"{name}: left out, for the phase before was not kept whole, or gained little")
                state.phase += 1
                continue
        if allowance and "initial" not in arrays:
            count = len(planned)
            planned = budgeting.shorten_to_budget(phase_setup, allowance, planned, index, state.resolved)
            # Another phase stands in this place, and may be conditional.
            if len(planned) < count:
                continue
        phase = planned[index]
        if phase.unfreeze is None:
            phase = planned[index] = block_choice.resolve(setup, phase)
            state.resolved.phases[index] = str(phase)
            state.resolved.write(folder)
        trained = variables.phase_network(setup.network, phase)
        trainable, frozen = freezing.apply(trained, phase)
        run = begin_phase(phase_setup, trained, planned, index, state, saver, history, arrays)
        run_phase(run, arrays)
        record = finish_phase(run, trainable, frozen)
        # A changed network may compute otherwise than the run's own.
        inputs = run.inputs if run.network is setup.network else None
        state = state.after(record)
        # Nothing else holds them from here on.
        arrays.clear()
        saver.save(state)
        soup.remove(folder)
    return state, inputs


def begin_phase(
    setup: TrainSetup,
    network: Network,
    planned: list[Phase],
    index: int,
    state: TrainState,
    saver: Checkpointer,
    history: History,
    arrays: dict[str, Weights],
) -> PhaseRun:
    """A phase at its start, or where a checkpoint left it."""
    phase, started = planned[index], time.monotonic() - state.seconds
    name = f"{index + 1:02d}-{phase.strategy}"
    if "phase_variables" in arrays:
        assign(network.model.variables, arrays["phase_variables"])
    else:
        variables.measure(network, setup.network, phase, lambda: calibration_images(setup.splits.train, network.size))
    inputs = input_caching.prepare(setup, network, name, phase, state.resolved)
    weights = inputs.model.get_weights()
    return PhaseRun(
        setup=setup,
        network=network,
        phase=phase,
        name=name,
        first_epoch=sum(phase.epochs for phase in planned[:index]),
        inputs=inputs,
        state=state,
        checkpointer=saver,
        history=history,
        initial=arrays.get("initial", weights),
        best=arrays.get("best", weights),
        last=arrays.get("last"),
        started=started,
    )


def run_phase(run: PhaseRun, arrays: dict[str, Weights]) -> None:
    """Fits a phase to its end; the weights of its model are then those of its last epoch."""
    if "initial" not in arrays:
        run.state.initial_score = run.validate()
        if "solution" in arrays:
            take_solution(run, arrays["solution"])
    if not run.is_over:
        fitting.fit(run, arrays.get("optimizer"), arrays.get("metrics"))


def take_solution(run: PhaseRun, solution: Weights) -> None:
    """Gives the head the weights that the probe solved. A phase with epochs has to be better than these."""
    run.model.get_layer(layer_names.LOGITS).set_weights(solution)
    if run.phase.epochs:
        solved = [run.model.get_weights()]
        kept = weight_interpolation.keep_best(
            run.model, run.inputs.outputs, run.setup.scorer, run.initial, solved, (1.0,), may_undo=False
        )
        run.state.initial_score = kept.score or run.state.initial_score
        run.initial = run.model.get_weights()
    run.keep_if_best(run.validate())


def finish_phase(run: PhaseRun, trainable: int, frozen: int) -> PhaseRecord:
    """Keeps what the phase is worth, and records it."""
    setup, phase, state = run.setup, run.phase, run.state
    alphas = phase.alphas if phase.epochs else (1.0,)
    first, candidates = run.judged(run.initial), run.candidates()
    kept = weight_interpolation.keep_best(
        run.model, run.inputs.outputs, setup.scorer, first, candidates, alphas, may_undo=run.may_undo
    )
    if kept.alpha:
        variables.copy_back(run.network, setup.network, phase)
    else:
        # The weights before were judged with the new activations too. A changed network had shares of its own.
        blending.finish(setup.network.model, run.blends)
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
        refused=kept.refused,
        health=phase_health.conclude(state.health, state.lr_backoffs),
    )
    console.say(f"{run.name}: {record.sentence(setup.scorer.title)} ({seconds:.1f} s)")
    if phase.variables in variables.JUDGED_AS:
        _say_served(run)
    phase_health.say(run.name, record.health)
    folder = setup.folder / "phases" / run.name
    run_folder.write_figures(folder / "record.json", record.to_json())
    # Without the optimizer of a model that was fitted itself.
    plain = keras.Model(setup.network.model.inputs, setup.network.model.outputs)
    run_folder.write_by_name(folder / "model.weights.h5", plain.save_weights)
    return record


def _say_served(run: PhaseRun) -> None:
    """Says how the run's own network does, where a phase was judged as something else computes it."""
    setup = run.setup
    outputs = phase_inputs.validation_outputs(setup.network, setup.splits.val)()
    loss, score = map(console.format_metric, setup.scorer.calibrated_loss_and_score(outputs))
    console.say(
        f"{run.name}: that is the network as {variables.JUDGED_AS[run.phase.variables]}; as it is served, in float32: "
        f"validation loss {loss}, {setup.scorer.title} {score}"
    )
