"""What `--abstain` asks for, checked against the task as soon as the data are listed."""

from collections.abc import Callable
from typing import NamedTuple

from kerasft.settings import spec as specs
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError

# What `--abstain` may name, and the method that it stands for.
METHODS = {"auto": "distance", "distance": "distance", "energy": "energy"}


class Method(NamedTuple):
    """What `--abstain` asks for.

    Attributes:
        name: `distance` or `energy`.
        keep: the share of the validation images that are known, in (0, 1).
    """

    name: str
    keep: float


def requested(config: Config, task: str) -> Method | None:
    """What `--abstain` asks for; None for `none`.

    Raises:
        UserError: an unknown method or argument, or one that is not for the task.
    """
    chosen = config.specs("abstain")
    if not chosen:
        return None
    if len(chosen) > 1:
        rule = f"must be one of none, {', '.join(METHODS)}, not {len(chosen)}"
        raise UserError(f"--abstain: {rule}. Received: {config.abstain!r}")
    method = specs.build(chosen[0], "--abstain", {name: _maker(kind) for name, kind in METHODS.items()}, kind=Method)
    if method.name == "energy" and task != "single_label":
        rule = f"energy is for single_label, and the task is {task}; choose distance"
        raise UserError(f"--abstain: {rule}. Received: {config.abstain!r}")
    return method


def _maker(name: str) -> Callable[..., Method]:
    def method(keep: float = 0.95) -> Method:
        if isinstance(keep, bool) or not isinstance(keep, int | float) or not 0 < keep < 1:
            raise ValueError("keep must be between 0 and 1, such as 0.95")
        return Method(name, float(keep))

    return method
