"""The console script `kerasft`, and `python -m kerasft`."""

import sys

from kerasft import front_door, run


def console() -> None:
    """Runs the command line. `kerasft` without arguments prints the overview of modes and commands."""
    if len(sys.argv) == 1:
        front_door.welcome()
    else:
        run.start()


if __name__ == "__main__":
    console()
