"""Commands that print information and train nothing, such as `kerasft backbones`."""

import importlib

from kerasft.commands.command_arguments import parse
from kerasft.settings.modes import COMMANDS

__all__ = ["COMMANDS", "run"]


def run(name: str, arguments: list[str]) -> None:
    """Runs a command: the function `run` of the module of the same name.

    Args:
        name: one of `COMMANDS`.
        arguments: the words after the name of the command.

    Raises:
        UserError: a mistake in the arguments.
    """
    argument, flags = parse(name, arguments)
    importlib.import_module(f"kerasft.commands.{name}").run(argument, **flags)
