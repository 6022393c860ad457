"""The command: `python -m kerasft.run [--flagfile=F] [--flag=value ...]`."""

import os
import signal
import sys
from typing import Any

from absl import app, flags, logging

from kerasft import __version__
from kerasft.console import stderr_filter
from kerasft.settings import command_flags, failures, machine
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError

command_flags.define_flags(flags.FLAGS)

DONE, BROKEN = 0, 1
_HELP = ("--help", "-help", "-h", "--helpshort", "--helpfull", "-?")


def main(argv: list[str]) -> int:
    """Runs one mode and returns the exit status."""
    try:
        settings, asked = command_flags.settings(flags.FLAGS, argv)
        if len(sys.argv) == 1:
            print(command_flags.EXAMPLE, flush=True)
        logging.set_verbosity(logging.ERROR)  # a phase that starts again is traced again, and says so
        status = _run(settings, asked)
        sys.stdout.flush()
        return status
    except (Exception, KeyboardInterrupt) as error:
        status = failures.answered(error, command_flags.places(flags.FLAGS))
        if status is None:
            raise
        return status


def _run(settings: Config, asked: dict[str, Any]) -> int:
    if asked["mode"] == "serve":
        from kerasft.serve import serve

        return serve(asked)
    with stderr_filter.without_notices():
        from kerasft import predict
        from kerasft.export import saved_model
        from kerasft.job import train
    try:
        if asked["mode"] == "predict":
            predict.predict(*map(asked.get, ("model", "images", "out", "url")))
        elif asked["mode"] == "tune":
            from kerasft import tune

            tune.tune(settings, **{name: asked[name] for name in tune.FLAGS})
        else:
            train.train(settings)
    except saved_model.ParityError as error:
        failures.tell(error.args)
        return BROKEN
    return DONE


def parse(argv: list[str]) -> list[str]:
    """Parses flags; help exits with 0 and a mistake with 2, each at once."""
    try:
        if any(word in _HELP for word in argv[1:]):
            print(f"kerasft {__version__}\n\n{__doc__}\n{command_flags.help_text()}", flush=True)
            sys.exit(DONE)
        return command_flags.parse(flags.FLAGS, argv)
    except (UserError, BrokenPipeError) as error:
        sys.exit(failures.answered(error, {}))


def _stop(signum, frame) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    machine.limit_threads()
    signal.signal(signal.SIGTERM, _stop)
    app.run(main, flags_parser=parse)
