"""The command: `kerasft MODE [--flag=value ...]`, or `python -m kerasft.run --mode=MODE [--flag=value ...]`."""

import os
import signal
import sys

from absl import app, flags, logging

from kerasft import command_line, front_door, quiet
from kerasft.errors import UserError, did_you_mean, one_of
from kerasft.front_door import DONE, MISTAKE
from kerasft.settings import arguments
from kerasft.settings.modes import MODES

command_line.define_flags(flags.FLAGS)

BROKEN, STOPPED = 1, 3


def main(argv: list[str]) -> int:
    """Runs one mode and returns the exit status."""
    try:
        if len(argv) > 1:
            raise UserError(f"unexpected argument; flags are written --name=value. Received: {argv[1]!r}")
        asked = {name: flags.FLAGS[name].value for name in command_line.COMMAND}
        mode = asked["mode"]
        if mode not in MODES:
            raise UserError(f"--mode: must be one of {one_of(MODES)}{did_you_mean(mode, MODES)}. Received: {mode!r}")
        arguments.check(asked["preset"], asked["dry_run"], mode)
        if flags.FLAGS.allow_imports and not any(arg.lstrip("-").startswith("allow_imports") for arg in sys.argv[1:]):
            raise UserError("--allow_imports: is taken from the command line only, not from a flagfile.")
        settings = command_line.from_flags(flags.FLAGS)
        logging.set_verbosity(logging.ERROR)  # a phase that starts again is traced again, and says so
        if mode == "serve":
            from kerasft.serve import serve

            return serve(asked)
        with quiet.notices():
            from kerasft import export, job, predict
        try:
            if mode == "predict":
                predict.predict(*map(asked.get, ("model", "images", "out", "url")))
            elif mode == "tune":
                from kerasft import tune

                tune.tune(settings, **{name: asked[name] for name in tune.FLAGS})
            elif asked["dry_run"]:
                from kerasft import dry_run

                dry_run.show(settings)
            else:
                job.train(settings)
        except export.ParityError as error:
            print(error, file=sys.stderr)
            return BROKEN
    except UserError as error:
        print(error, file=sys.stderr)
        return MISTAKE
    except (PermissionError, NotADirectoryError, IsADirectoryError, FileExistsError) as error:
        print(f"{error.strerror}. Received: {error.filename!r}", file=sys.stderr)
        return MISTAKE
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the last saved state", file=sys.stderr)
        return STOPPED
    return DONE


def _stop(signum, frame) -> None:
    raise KeyboardInterrupt


def start() -> None:
    """Runs the command that was typed, and ends the process with its exit status."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    signal.signal(signal.SIGTERM, _stop)
    app.run(main, flags_parser=lambda argv: front_door.parse(argv, flags.FLAGS))


if __name__ == "__main__":
    start()
