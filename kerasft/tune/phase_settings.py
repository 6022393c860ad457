"""Writes the searched `lr` and `epochs` into `--phases`, and appends `--winner_phases`."""

import inspect
from collections.abc import Collection, Sequence
from dataclasses import replace

from kerasft import strategies
from kerasft.networks.network import Network
from kerasft.settings import spec as specs
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.settings.spec import Spec
from kerasft.strategies import planning
from kerasft.strategies.phase import Phase
from kerasft.tune.search_space import PHASE_SETTINGS


def set_lr_and_epochs(
    config: Config,
    network: Network,
    examples: int,
    lr: float | None = None,
    epochs: int | None = None,
    shift: float | None = None,
) -> str:
    """Returns `--phases` with another learning rate and number of epochs.

    Both are those of the last phase that has epochs. The phases before it keep their ratio to it. `auto` is replaced by
    the phases that it stands for, without its conditional phase and independent of the machine's speed. So all trials
    train the same phases. Those that are named after `auto` stay as they are.

    Args:
        examples: of the training split.
        lr, epochs: None to leave them as they are.
        shift: domain shift of the images, where it was measured.

    Raises:
        UserError: no phase has epochs, or a phase gets a rate above 10.
    """
    planned = [phase for phase in planning.plan(config, network, examples, shift=shift)[0] if not phase.conditional]
    found = [one for spec in planning.before_auto(config) for one in _each(spec)]
    behind = [one for spec in planning.after_auto(config) for one in _each(spec)]
    planned = planned[: len(planned) - len(behind)]
    if planning.has_auto(config):
        added = planned[-1:] if found else planned
        found += [Spec(phase.strategy, (), _auto_arguments(phase, network)) for phase in added]
    # `plan` may have added a head phase at the start.
    planned = planned[-len(found) :]
    timed = [phase for phase in planned if phase.epochs]
    if not timed:
        raise UserError(f"--search: lr and epochs need a phase with epochs. Received: '--phases={config.phases}'")
    last = timed[-1]
    for index, (spec, phase) in enumerate(zip(found, planned)):
        if not phase.epochs:
            continue
        arguments = _arguments_by_name(spec)
        if lr is not None:
            arguments["lr"] = float(f"{phase.lr * lr / last.lr:.6g}")
        if epochs is not None:
            arguments["epochs"] = max(1, round(phase.epochs * epochs / last.epochs))
        found[index] = Spec(spec.name, (), arguments)
    return " | ".join(map(str, [*found, *behind]))


def check_searched(names: Collection[str], config: Config, sets_epochs: bool) -> None:
    """Raises UserError if a rate or a number of epochs is searched that another one replaces.

    Args:
        names: of the searched settings.
        sets_epochs: whether the tuner sets the epochs of trials, as hyperband does.
    """
    if sets_epochs and "epochs" in names:
        raise UserError("--search: hyperband sets the epochs itself. Received: 'epochs'")
    # `set_lr_and_epochs` leaves them as they are.
    behind = {spec.name for spec in planning.after_auto(config)}
    for name in names:
        field, _, rest = name.partition(".")
        phase, _, argument = rest.rpartition(".")
        if field != "phases" or argument not in PHASE_SETTINGS or phase in behind:
            continue
        if sets_epochs and argument == "epochs":
            raise UserError(f"--search: hyperband sets the epochs of all phases. Received: {name!r}")
        if argument in names:
            raise UserError(f"--search: {argument} is that of all phases; search one of both. Received: {name!r}")


def check_winner_phases(config: Config, winner_phases: str) -> None:
    """Raises UserError if `--winner_phases` is no list of phases, or if `--phases` leaves them to `auto`."""
    flag = "--winner_phases"
    for spec in specs.parse(winner_phases, flag):
        if str(spec) != "auto":
            planning.build(spec, flag)
    if winner_phases and planning.has_auto(config):
        rule = "continues after --phases, which must name the phases of the trials, such as head(epochs=9)"
        raise UserError(f"{flag}: {rule}. Received: '--phases={config.phases}'")


def append_phases(trial: Config, config: Config, winner_phases: str, settled: Sequence[str] = ()) -> Config:
    """Returns a trial's Config with further phases.

    The trial's own phases keep the optimizer and the schedule that were searched together with their rate. A head that the trial
    solved and did not train takes neither.

    Args:
        config: of the search. Its optimizer and schedule are those of the further phases.
        settled: the phases of the trial's `settled.json`.
    """
    tied = ("optimizer", "schedule")
    kept = {name: trial.spec(name) for name in tied if getattr(trial, name) != getattr(config, name)}
    found = list(trial.specs("phases"))
    for index, spec in enumerate(found):
        own = {} if index == 0 and _is_solved(spec, settled) else kept
        found[index] = Spec(spec.name, (), own | _arguments_by_name(spec))
    before = {name: getattr(config, name) for name in tied}
    return replace(trial, phases=" | ".join([*map(str, found), winner_phases]), **before)


def _is_solved(spec: Spec, settled: Sequence[str]) -> bool:
    """Whether the first phase of a trial is a head that names no epochs, and that had none."""
    phase = planning.build(spec, "--phases", outside=Phase)[0]
    had = specs.parse_one(settled[0], "--phases").kwargs.get("epochs") if settled else None
    return not phase.trains_backbone and phase.epochs is None and had == 0


def _each(spec: Spec) -> tuple[Spec, ...]:
    """The Specs of the phases that a Spec stands for, one each.

    Raises:
        UserError: they are several of a foreign strategy, which no Spec names alone.
    """
    phases = planning.build(spec, "--phases", outside=Phase)
    if len(phases) > 1 and any(phase.origin for phase in phases):
        rule = f"lr and epochs are those of one phase, and {spec.name} gives {len(phases)}; search others"
        raise UserError(f"--search: {rule}. Received: '--phases={spec}'")
    return (spec,) if len(phases) == 1 else tuple(specs.parse_one(str(phase), "--phases") for phase in phases)


def _arguments_by_name(spec: Spec) -> dict:
    """Returns the arguments of a phase's Spec, all by name."""
    signature = inspect.signature(specs.resolve(spec, "--phases", strategies.STRATEGIES, outside=Phase))
    return dict(signature.bind(*spec.args, **spec.kwargs).arguments)


def _auto_arguments(phase: Phase, network: Network) -> dict:
    """Returns the arguments that `auto` sets. The head's rate depends on the depths that a trial's head sees."""
    if not phase.epochs:
        return {"epochs": 0}
    if not phase.trains_backbone:
        return {"epochs": phase.epochs, "lr": phase.lr}
    size = {} if phase.image_size is None else {"image_size": phase.image_size}
    found = {**phase.arguments, "epochs": phase.epochs, "lr": phase.lr, "batch_norm": phase.batch_norm} | size
    found |= {"stop_if_losing": True} if phase.stop_if_losing else {}
    return found | ({"head_lr": "auto"} if network.pretrained else {})
