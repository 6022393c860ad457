"""The command line as it is typed: help, version and commands are answered here; the rest are flags of a run."""

import sys

from absl import flags

from kerasft import __version__, commands
from kerasft.console.columns import write
from kerasft.settings import arguments, command_flags, failures
from kerasft.settings import help as help_pages
from kerasft.settings.errors import UserError, did_you_mean, one_of
from kerasft.settings.modes import COMMANDS, MODES

HELP = ("--help", "-help", "-h", "--helpshort", "-?")
FULL = ("--helpfull", "-helpfull")
DONE = 0


def parse(argv: list[str], flag_values: flags.FlagValues) -> list[str]:
    """Parses a command line; help, a command and a mistake end the process at once.

    Returns:
        The words that are no flags, the name of the program first.
    """
    try:
        if answer(argv[1:]):
            sys.exit(DONE)
        return command_flags.parse(flag_values, [argv[0], *arguments.expand(argv[1:])])
    except (UserError, BrokenPipeError) as error:
        sys.exit(failures.report(error, {}))


def answer(words: list[str]) -> bool:
    """Prints what was asked for, if it was one of these; returns whether it was.

    Args:
        words: as they were typed, without the name of the program.

    Raises:
        UserError: a mistake in the arguments of a command, or help for a mode that does not exist.
    """
    first = words[0] if words else ""
    asked = {*words}
    if first in COMMANDS and not asked & {*HELP, *FULL}:
        commands.run(first, words[1:])
    elif asked & {"--version", "-version"}:
        write(__version__)
    elif asked & {*FULL}:
        write(help_pages.full())
    elif asked & {*HELP}:
        write(help_pages.of_command(first) if first in COMMANDS else _help(words))
    else:
        return False
    return True


def welcome() -> None:
    """Prints the short help, for a `kerasft` without anything behind it."""
    write(help_pages.overview())


def _help(words: list[str]) -> str:
    """The help of the mode that is named, as the first word or as `--mode=`; else the overview."""
    named = [text.partition("=")[2] for text in words if text.startswith(("--mode=", "-mode="))]
    named += [words[0]] if not words[0].startswith("-") else []
    if not named:
        return help_pages.overview()
    if named[-1] not in MODES:
        known = [*MODES, *COMMANDS]
        raise UserError(f"--help: must be of {one_of(known)}{did_you_mean(named[-1], known)}. Received: {named[-1]!r}")
    return help_pages.of_mode(named[-1])
