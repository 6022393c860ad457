"""Parses the command line. Help, the version and the commands are printed here; everything else is a mode with flags."""

import sys

from absl import flags

from kerasft import __version__, commands
from kerasft.console.columns import write
from kerasft.settings import arguments, command_flags, failures
from kerasft.settings import help as help_pages
from kerasft.settings.errors import UserError, did_you_mean, one_of, printable
from kerasft.settings.modes import COMMANDS, MODES

HELP_FLAGS = ("--help", "-help", "-h", "--helpshort", "-?")
FULL_HELP_FLAGS = ("--helpfull", "-helpfull")
EXIT_OK = 0


def parse(argv: list[str], flag_values: flags.FlagValues) -> list[str]:
    """Parses a command line. Help, a command or a mistake ends the process.

    Returns:
        The words that are no flags. The first one is the name of the program.
    """
    try:
        if print_help_or_run_command(argv[1:]):
            sys.exit(EXIT_OK)
        words = command_flags.parse(flag_values, [argv[0], *arguments.expand(argv[1:])])
        for line in arguments.find_overridden(argv[1:]):
            write(printable(line))
        return words
    except (Exception, KeyboardInterrupt) as error:
        status = failures.report(error, {})
        if status is None:
            raise
        sys.exit(status)


def print_help_or_run_command(words: list[str]) -> bool:
    """Prints the help or the version, or runs a command. Returns False if the words ask for none of them.

    Args:
        words: of the command line, without the name of the program.

    Raises:
        UserError: a mistake in the arguments of a command, or help for a mode that does not exist.
    """
    first = words[0] if words else ""
    given = {*words}
    if first in COMMANDS and not given & {*HELP_FLAGS, *FULL_HELP_FLAGS}:
        commands.run(first, words[1:])
    elif given & {"--version", "-version"}:
        write(__version__)
    elif given & {*FULL_HELP_FLAGS}:
        write(help_pages.full_help())
    elif given & {*HELP_FLAGS}:
        write(help_pages.command_help(first) if first in COMMANDS else _help(words))
    else:
        return False
    return True


def welcome() -> None:
    """Prints the overview of modes and commands, for `kerasft` without arguments."""
    write(help_pages.overview())


def _help(words: list[str]) -> str:
    """Returns the help of the mode that the first word or `--mode=` names; without one, the overview."""
    topics = [text.partition("=")[2] for text in words if text.startswith(("--mode=", "-mode="))]
    topics += [words[0]] if not words[0].startswith("-") else []
    if not topics:
        return help_pages.overview()
    if topics[-1] not in MODES:
        known = [*MODES, *COMMANDS]
        raise UserError(
            f"--help: must be of {one_of(known)}{did_you_mean(topics[-1], known)}. Received: {topics[-1]!r}"
        )
    return help_pages.mode_help(topics[-1])
