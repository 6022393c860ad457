"""`--mode=lr_find`: a learning rate is suggested for the first phase that has epochs. No run is changed by it."""

import shlex
from dataclasses import replace
from pathlib import Path

import keras
import tensorflow as tf

from kerasft import report
from kerasft.console import console
from kerasft.console.wording import number
from kerasft.data import pipeline, sources
from kerasft.data.listing import Listing
from kerasft.job.backbone import choose_backbone
from kerasft.job.build_network import resolve_settings
from kerasft.job.framed_splits import audit_and_frame
from kerasft.settings import spec as specs
from kerasft.settings.config import Config
from kerasft.storage import run_folder, run_lock
from kerasft.storage.resolved_settings import ResolvedSettings
from kerasft.strategies.phase import Phase
from kerasft.training import first_phase, lr_range_test
from kerasft.training.lr_range_test import RangeTest

JSON_NAME, PAGE_NAME = "lr_find.json", "lr_find.html"
# What a run writes before its first phase; removed again.
SCRATCH = ".lr_find"


@pipeline.user_errors()
def find(config: Config) -> RangeTest:
    """Does the range test, and writes `lr_find.json` and `lr_find.html` into the run folder.

    Raises:
        UserError: what the run itself would refuse before it trains, or no phase has epochs.
    """
    listing = sources.load(config)
    folder, finished = run_folder.find(config, listing.name)
    with run_lock.locked(folder):
        if finished is None:
            run_folder.write_settings(config, folder)
        with run_folder.scratch(folder, SCRATCH) as place:
            found, phase, flag = _measure(config, listing, place)
    _tell(found, phase, flag)
    values = {"phase": phase.strategy, "optimizer": str(phase.optimizer), **found.to_json(), "flag": flag}
    run_folder.write_json(folder / JSON_NAME, values)
    report.write_lr_find(folder, values)
    console.say(f"lr_find: {folder / PAGE_NAME}")
    return found


def _measure(config: Config, listing: Listing, folder: Path) -> tuple[RangeTest, Phase, str | None]:
    """The test, the phase that was tested, and the suggestion as a flag."""
    keras.utils.set_random_seed(config.seed)
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    config, choice, audited = choose_backbone(config, listing, folder)
    network, resolved = resolve_settings(config, listing, folder, choice)
    splits = audit_and_frame(config, listing, network, resolved, folder, audited)
    run, planned = first_phase.first_phase(config, network, splits, folder, resolved)
    steps = lr_range_test.STEPS
    console.say(f"lr_find: {run.name}, {run.phase.optimizer}, {steps} steps from {lr_range_test.FIRST_RATE:g} up")
    found = lr_range_test.measure(run)
    flag = (
        None if found.suggestion is None else as_flag(planned, run.phase, found.suggestion, config, run.state.resolved)
    )
    return found, run.phase, flag


def as_flag(planned: list[Phase], tested: Phase, lr: float, config: Config, resolved: ResolvedSettings) -> str:
    """`--phases=` with another rate for the tested phase, and for a conditional one that repeats it.

    What the phases take from other flags is left to these.
    """
    augment = specs.parse(resolved.augment or "none", "--augment")
    from_flags = {name: config.spec(name) for name in ("optimizer", "schedule", "loss")}
    from_flags["augment"] = config.specs("augment")
    written = []
    for phase in planned:
        alike = phase is tested or (
            phase.conditional and replace(phase, conditional=False, epochs=1) == replace(tested, epochs=1)
        )
        # `auto` was resolved for the phase.
        own = phase.augment != augment or config.augment.strip() != "auto"
        phase = phase if own else replace(phase, augment=from_flags["augment"])
        same = {name: None for name, value in from_flags.items() if getattr(phase, name) == value}
        written.append(str(replace(phase, **same, **({"lr": float(f"{lr:.2g}")} if alike else {}))))
    text = " | ".join(written)
    # Phases have single quotes inside, which double ones leave readable.
    return shlex.quote(f"--phases={text}") if set(text) & set('"$`\\!') else f'--phases="{text}"'


def _tell(found: RangeTest, phase: Phase, flag: str | None) -> None:
    rates, smoothed = found.rates, found.smoothed
    finite = [(loss, rate) for loss, rate in zip(smoothed, rates) if loss == loss]
    low, at = min(finite) if finite else (float("nan"), rates[-1])
    console.say(
        f"lr_find: {len(rates)} steps up to a rate of {rates[-1]:.2g}; loss {number(found.losses[0])} at first, "
        f"{number(low)} at {at:.2g}, {number(found.losses[-1])} at last"
    )
    if found.middle is not None:
        console.say(
            f"lr_find: suggested {found.middle:.2g}, the middle of the descent (steepest at {found.steepest:.2g})"
        )
    elif found.suggestion is not None:
        console.say(
            f"lr_find: no rate lowers the loss in so few steps; suggested {found.suggestion:.2g}, "
            f"a tenth of {found.harmless:.2g}, up to which it does not rise"
        )
    else:
        console.say(f"lr_find: even the lowest rates raise the loss of {phase.strategy}; nothing is suggested")
    if flag:
        console.say(f"lr_find: {flag}")
