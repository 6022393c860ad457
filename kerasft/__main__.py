"""The console script `kerasft`, and `python -m kerasft`."""

import sys

from kerasft import command_line, run


def console() -> None:
    """Runs the command line. `kerasft` without arguments prints the overview of modes and commands."""
    if len(sys.argv) == 1:
        command_line.welcome()
    else:
        run.start()


if __name__ == "__main__":
    console()
