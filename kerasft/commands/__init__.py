"""Commands beside the modes: each tells something, and trains nothing."""

import importlib

from kerasft.commands.words import parse
from kerasft.settings.modes import COMMANDS

__all__ = ["COMMANDS", "run"]


def run(name: str, arguments: list[str]) -> None:
    """Runs a command: the function `run` of the module of the same name.

    Args:
        name: one of `COMMANDS`.
        arguments: what was typed behind it.

    Raises:
        UserError: a mistake in the arguments.
    """
    argument, flags = parse(name, arguments)
    importlib.import_module(f"kerasft.commands.{name}").run(argument, **flags)
