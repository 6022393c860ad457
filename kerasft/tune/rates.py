"""The searched `lr` and `epochs` in the text of `--phases`."""

import inspect
from dataclasses import replace

from kerasft import strategies
from kerasft.networks.network import Network
from kerasft.settings import spec as specs
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.settings.spec import Spec
from kerasft.strategies import planning
from kerasft.strategies.phase import Phase


def written(config: Config, network: Network, examples: int, lr: float | None = None, epochs: int | None = None) -> str:
    """`--phases` with the rate and the epochs of the last phase that has epochs; those before keep their ratio to it.

    `auto` is settled first, without its further phase and whatever the machine's speed, so that all trials do alike.

    Args:
        examples: of the training split.
        lr, epochs: None to leave them.

    Raises:
        UserError: no phase has epochs, or one comes to a rate above 10.
    """
    planned = [phase for phase in planning.plan(config, network, examples)[0] if not phase.conditional]
    found = [one for spec in planning.named(config) for one in _each(spec)]
    if planning.ends_in_auto(config):
        found += [Spec(phase.strategy, (), _arguments(phase)) for phase in (planned[-1:] if found else planned)]
    planned = planned[-len(found) :]  # without the head phase that `plan` may have put first
    timed = [phase for phase in planned if phase.epochs]
    if not timed:
        raise UserError(f"--search: lr and epochs need a phase with epochs. Received: '--phases={config.phases}'")
    last = timed[-1]
    for place, (spec, phase) in enumerate(zip(found, planned)):
        if not phase.epochs:
            continue
        arguments = _named(spec)
        if lr is not None:
            arguments["lr"] = float(f"{phase.lr * lr / last.lr:.6g}")
        if epochs is not None:
            arguments["epochs"] = max(1, round(phase.epochs * epochs / last.epochs))
        found[place] = Spec(spec.name, (), arguments)
    return " | ".join(map(str, found))


def check_following(config: Config, phases_after: str) -> None:
    """Raises UserError where `--winner_phases` names no phases, or `--phases` leaves none to it."""
    flag = "--winner_phases"
    for spec in specs.parse(phases_after, flag):
        if str(spec) != "auto":
            planning.build(spec, flag)
    if phases_after and planning.ends_in_auto(config):
        rule = "goes on where --phases ends; name the phases of the trials there, such as head(epochs=9)"
        raise UserError(f"{flag}: {rule}. Received: '--phases={config.phases}'")


def followed(trial: Config, config: Config, phases_after: str) -> Config:
    """A trial's Config whose phases others follow; what was searched with the rate stays with the trial's own.

    Args:
        config: of the search, whose optimizer and schedule the others have.
    """
    tied = ("optimizer", "schedule")
    kept = {name: trial.spec(name) for name in tied if getattr(trial, name) != getattr(config, name)}
    found = [Spec(spec.name, (), kept | _named(spec)) for spec in trial.specs("phases")]
    before = {name: getattr(config, name) for name in tied}
    return replace(trial, phases=" | ".join([*map(str, found), phases_after]), **before)


def _each(spec: Spec) -> tuple[Spec, ...]:
    """The Specs of the phases that a Spec stands for, one each."""
    phases = planning.build(spec, "--phases", outside=Phase)
    return (spec,) if len(phases) == 1 else tuple(specs.parse_one(str(phase), "--phases") for phase in phases)


def _named(spec: Spec) -> dict:
    """The arguments of a phase's Spec, all by name."""
    signature = inspect.signature(specs.resolve(spec, "--phases", strategies.STRATEGIES, outside=Phase))
    return dict(signature.bind(*spec.args, **spec.kwargs).arguments)


def _arguments(phase: Phase) -> dict:
    """Those that `auto` sets."""
    if not phase.epochs:
        return {"epochs": 0}
    size = {} if phase.image_size is None else {"image_size": phase.image_size}
    return {"epochs": phase.epochs, "lr": phase.lr, "batch_norm": phase.batch_norm} | size
