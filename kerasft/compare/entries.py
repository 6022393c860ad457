"""The entries of a comparison: `--strategies`, read into one Config for each."""

import re
from dataclasses import asdict, dataclass, replace
from typing import Any

from absl import flags

from kerasft.settings import command_flags
from kerasft.settings import config as configs
from kerasft.settings import spec as specs
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError, did_you_mean
from kerasft.strategies import STRATEGIES

# What is compared if --strategies is empty: all strategies but `quantised`, some in several forms, with their own epochs and
# rates, and `auto`.
DEFAULT = (
    "head; top(0.3); top(0.6); all; all(layer_decay=0.9); all(l2sp=0.01); surgical; bias; norm; lora(rank=8); adapter; "
    "gradual; auto"
)

# All entries share the images, their splits, the seed and the folders. So these are flags of the comparison.
SHARED = (*configs.SPLITTING, "budget_minutes", "cache_gb", "allow_imports", *configs.LOCATIONS)

# `NAME:` before the settings. A name has no brackets, so it is not the text of a phase, and no leading dash.
_NAMED = re.compile(r"(?!-)([\w][\w .+-]*?)\s*:\s*(.*)", re.DOTALL)
# Where the next flag of an entry begins. So a value may have spaces, and needs no quotes.
_FLAG = re.compile(r"(?:^|\s+)--(?=\w)")


@dataclass(frozen=True)
class Entry:
    """One strategy of a comparison.

    Attributes:
        name: its name, or the text of its settings.
        text: its settings as `--strategies` has them.
        config: all of its settings, without folders.
    """

    name: str
    text: str
    config: Config

    @property
    def folder_name(self) -> str:
        """A name that is valid everywhere, and differs for other settings."""
        words = re.sub(r"[^A-Za-z0-9.]+", "-", self.name).strip("-.")[:40].rstrip("-.")
        return f"{words or 'entry'}-{self.config.digest()}"


def parse(text: str, config: Config, task: str) -> tuple[Entry, ...]:
    """Reads `--strategies`: entries separated by semicolons; an empty text gives those of `DEFAULT`.

    An entry is a value for `--phases`, or flags as on the command line (`--average=ema --phases=all(epochs=3)`). The
    value of a flag ends where the next one begins, so it needs no quotes. `NAME: ` may stand before either.

    Args:
        text: of the flag.
        config: what the entries have in common.
        task: of the data; it decides whether losses can be compared.

    Raises:
        UserError: an entry cannot be read, sets what all entries share, or is there twice; or there is only one.
    """
    entries = tuple(_entry(part.strip(), config, task) for part in (text.strip() or DEFAULT).split(";") if part.strip())
    if len(entries) < 2:
        raise UserError(f"--strategies: at least two entries are needed, separated by ';'. Received: {text!r}")
    for index, entry in enumerate(entries):
        for other in entries[:index]:
            if entry.name == other.name:
                raise UserError(f"--strategies: two entries have this name. Received: {entry.name!r}")
            if entry.config == other.config:
                rule = f"has the same settings as {other.name!r}"
                raise UserError(f"--strategies: {entry.name!r} {rule}. Received: {entry.text!r}")
    return entries


def _entry(part: str, config: Config, task: str) -> Entry:
    match = _NAMED.fullmatch(part)
    name, text = match.groups() if match else (part, part)
    name = " ".join(name.split())
    if not text:
        raise UserError(f"--strategies: an entry needs phases or flags after its name. Received: {part!r}")
    if not text.startswith("--"):
        # So that a mistake is one in --strategies, which is what was written.
        specs.parse(text, "--strategies")
    changed = _flags(text) if text.startswith("--") else {"phases": text}
    for flag in changed:
        _check_flag(flag, task, text)
    entry = Entry(name, text, replace(config, **_typed(changed, config.allow_imports)))
    for spec in entry.config.specs("phases"):
        # What a dotted name stands for is known only to the process that may import it.
        if spec.name != "auto" and "." not in spec.name:
            specs.build(spec, "--strategies", STRATEGIES)
    return entry


def _flags(text: str) -> dict[str, str]:
    """Returns the flags of an entry by name, each with its value as text; `true` and `false` for `--name` and `--noname`."""
    found = {}
    for part in _FLAG.split(text)[1:]:
        name, sign, value = part.partition("=")
        if not sign and name.startswith("no") and name not in configs.FIELDS:
            name, value = name.removeprefix("no"), "false"
        elif not sign:
            value = "true"
        if name in found:
            raise UserError(f"--strategies: --{name} stands twice in one entry. Received: {text!r}")
        found[name] = value.strip()
    return found


def _check_flag(name: str, task: str, text: str) -> None:
    if name not in configs.FIELDS:
        settings = [field for field in configs.FIELDS if field not in SHARED]
        rule = f"--{name} is no setting of a run{did_you_mean(name, settings)}"
        raise UserError(f"--strategies: {rule}. Received: {text!r}")
    if name in SHARED:
        rule = f"--{name} is the same for all entries; write it outside of --strategies"
        raise UserError(f"--strategies: {rule}. Received: {text!r}")
    # Under regression the loss is also the measure by which entries are compared.
    if name == "loss" and task == "regression":
        rule = "regression is compared by --loss, so it is the same for all entries; a phase may have its own, as all(loss=mae)"
        raise UserError(f"--strategies: {rule}. Received: {text!r}")


def _typed(changed: dict[str, str], allow_imports: tuple[str, ...]) -> dict[str, Any]:
    """Returns the values of flags in the types of their fields, as the command line reads them."""
    # Flags with dotted names are refused without it.
    shared = f"--allow_imports={','.join(allow_imports)}"
    values = flags.FlagValues()
    command_flags.define_flags(values)
    command_flags.parse(values, ["compare", shared, *(f"--{name}={value}" for name, value in changed.items())])
    given = asdict(command_flags.make_config(values))
    return {name: given[name] for name in changed}
