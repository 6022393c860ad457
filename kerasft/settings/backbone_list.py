"""`--backbone` as text: one network, several with `|` between them, or `auto`. Needs no TensorFlow."""

import os
import re
from typing import NamedTuple

from kerasft.settings import spec as specs
from kerasft.settings.errors import UserError
from kerasft.settings.spec import Spec

AUTO = "auto"

# A bar that is not inside of quotation marks. A path may hold one.
_BAR = re.compile(r"""\|(?=(?:[^'"]|'[^']*'|"[^"]*")*$)""")


class Candidate(NamedTuple):
    """One network of the list.

    Attributes:
        choice: as it is written.
        backbone: without its weights: a constructor with arguments, a file, or a preset of KerasHub.
        weights: `weights=` of the constructor; None where `--weights` holds.
    """

    choice: str
    backbone: str
    weights: str | None = None


def is_file(backbone: str) -> bool:
    """Whether a `--backbone` names a saved model rather than a constructor."""
    return backbone.endswith((".keras", ".h5", ".hdf5"))


def is_hub(backbone: str) -> bool:
    """Whether a `--backbone` names a preset of KerasHub, or a folder with one."""
    return backbone.startswith("hub:")


def split(text: str) -> list[str]:
    """The parts of a list, without the space around them."""
    return [part.strip() for part in _BAR.split(text)]


def expand_home(text: str) -> str:
    """A list of networks or of teachers with `~` expanded in its paths. A list without one stays as it is written."""
    if "~" not in text:
        return text
    # `hub:~/preset` is a folder too.
    prefixes = ("hub:" if is_hub(part) else "" for part in split(text))
    return " | ".join(
        before + os.path.expanduser(part.removeprefix(before)) for before, part in zip(prefixes, split(text))
    )


def parse(text: str) -> tuple[Candidate, ...]:
    """The candidates of a list. `auto` alone gives one of that name.

    Raises:
        UserError: a part that is no Spec, the same part twice, `auto` in a list, or weights that are no text.
    """
    parts = split(text)
    if len(set(parts)) < len(parts):
        raise UserError(f"--backbone: each network of a list is named once. Received: {text!r}")
    if AUTO in parts and len(parts) > 1:
        raise UserError(f"--backbone: auto makes a list of its own, so it stands alone. Received: {text!r}")
    return tuple(map(_candidate, parts))


def parse_specs(text: str) -> tuple[Spec, ...]:
    """The Specs of a list, for what is checked of every Spec. Files and presets have none."""
    parse(text)
    return tuple(specs.parse_one(part, "--backbone") for part in split(text) if not (is_file(part) or is_hub(part)))


def _candidate(part: str) -> Candidate:
    if is_file(part) or is_hub(part):
        return Candidate(part, part)
    spec = specs.parse_one(part, "--backbone")
    if "weights" not in spec.kwargs:
        return Candidate(part, part)
    weights = spec.kwargs["weights"]
    # imagenet, none and bundled may stand without quotation marks.
    weights = weights.name if isinstance(weights, Spec) and not weights.args and not weights.kwargs else weights
    if not isinstance(weights, str):
        rule = "weights= must be imagenet, bundled, none or the path of a weights file, in quotation marks"
        raise UserError(f"--backbone: {rule}. Received: {part!r}")
    others = {name: value for name, value in spec.kwargs.items() if name != "weights"}
    return Candidate(part, str(Spec(spec.name, spec.args, others)), weights)
