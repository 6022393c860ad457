"""The command: `python -m kerasft.run [--flagfile=F] [--flag=value ...]`."""

import os
import sys

from absl import app, flags, logging

from kerasft import __version__, command_line, interrupt, quiet
from kerasft.errors import UserError, did_you_mean, one_of

_MODES = ("train", "predict", "serve", "tune")
command_line.define_flags(flags.FLAGS)

DONE, BROKEN, MISTAKE, STOPPED = 0, 1, 2, 3


def main(argv: list[str]) -> int:
    """Runs one mode and returns the exit status."""
    try:
        if len(argv) > 1:
            raise UserError(f"unexpected argument; flags are written --name=value. Received: {argv[1]!r}")
        asked = {name: flags.FLAGS[name].value for name in command_line.COMMAND}
        mode = asked["mode"]
        if mode not in _MODES:
            raise UserError(f"--mode: must be one of {one_of(_MODES)}{did_you_mean(mode, _MODES)}. Received: {mode!r}")
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
        interrupt.taken()
        print("stopped; the same command goes on from the last saved state", file=sys.stderr)
        return STOPPED
    return DONE


def parse(argv: list[str]) -> list[str]:
    """Parses flags; help exits with 0 and a mistake with 2, each at once."""
    if any(arg in ("--help", "-help", "-h", "--helpshort", "--helpfull", "-?") for arg in argv[1:]):
        print(f"kerasft {__version__}\n\n{__doc__}\n{command_line.help_text()}")
        sys.exit(DONE)
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        print(command_line.flag_mistake(error, list(flags.FLAGS)), file=sys.stderr)
        sys.exit(MISTAKE)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    interrupt.stop_on_sigterm()
    app.run(main, flags_parser=parse)
