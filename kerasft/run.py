"""The command: `kerasft MODE [--flag=value ...]`, or `python -m kerasft.run --mode=MODE [--flag=value ...]`."""

import gc
import os
import sys
import time
from contextlib import nullcontext
from typing import Any

from absl import app, flags, logging

from kerasft import command_line
from kerasft.console import encoding, stderr_filter
from kerasft.settings import command_flags, failures, imports, machine
from kerasft.settings.config import Config
from kerasft.training import deferred_signals

command_flags.define_flags(flags.FLAGS)

EXIT_OK, EXIT_FAILED = 0, 1

# The command counts its time from here.
_BEGAN = time.monotonic()


def main(argv: list[str]) -> int:
    """Runs one mode and returns the exit status."""
    try:
        machine.check_system()
        settings, options = command_flags.read_settings(flags.FLAGS, argv)
        if settings.allow_imports:
            imports.search_working_directory()
        if len(sys.argv) == 1:
            print(command_flags.EXAMPLE, flush=True)
        # A phase that restarts is traced again. TensorFlow would warn about it.
        logging.set_verbosity(logging.ERROR)
        # Under `--deterministic` TensorFlow reports as an error that it ignores an attribute, for each input stream that it makes.
        with stderr_filter.filter_lines() if settings.deterministic else nullcontext():
            status = _run(settings, options)
        sys.stdout.flush()
        deferred_signals.ignore_sigterm()
        return status
    except (Exception, KeyboardInterrupt) as error:
        status = failures.report(error, command_flags.named_paths(flags.FLAGS))
        if status is None:
            raise
        deferred_signals.clear_interrupt_mark()
        return status


def _run(settings: Config, options: dict[str, Any]) -> int:
    if options["mode"] == "serve":
        from kerasft.serve import serve

        return serve(options)
    if options["mode"] == "compare":
        from kerasft import compare

        # TensorFlow is only in the processes of the entries, which need the memory.
        return compare.compare(settings, **{name: options[name] for name in compare.FLAGS})
    if options["mode"] == "predict":
        from kerasft import predict

        # TensorFlow is imported only for a SavedModel.
        predict.predict(*map(options.get, ("model", "images", "out", "url", "artefact")))
        return EXIT_OK
    with imports.without_garbage_collection():
        stderr_filter.tensorflow()
        from kerasft.export import proof
        from kerasft.job import train
        from kerasft.job.served_baseline import GateError

    try:
        if options["mode"] == "tune":
            from kerasft import tune

            tune.tune(settings, **{name: options[name] for name in tune.FLAGS})
        elif options["mode"] == "audit":
            from kerasft.job import audit_mode

            audit_mode.audit(settings)
        elif options["mode"] == "compress" and options["target"]:
            from kerasft import slim

            slim.slim(settings, options["model"], options["target"])
        elif options["mode"] == "compress":
            from kerasft.job import compress

            compress.compress(settings, options["model"], timings=options["timings"])
        elif options["mode"] == "explain":
            from kerasft.job import explain

            explain.explain(settings, *map(options.get, ("model", "images", "out")))
        elif options["mode"] == "lr_find":
            from kerasft.job import lr_find

            lr_find.find(settings)
        elif options["dry_run"]:
            from kerasft.job import dry_run

            dry_run.show(settings)
        else:
            train.train(settings, _BEGAN)
    except (proof.ParityError, GateError) as error:
        failures.print_message(error.args)
        return EXIT_FAILED
    return EXIT_OK


def start() -> None:
    """Runs the command line, and ends the process with its exit status."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    encoding.escape_unprintable()
    machine.limit_threads()
    deferred_signals.stop_on_sigterm()
    failures.ignore_hdf5_cleanup()
    try:
        app.run(main, flags_parser=lambda argv: command_line.parse(argv, flags.FLAGS))
    finally:
        # Else the interpreter looks through all objects once more before it ends.
        gc.freeze()


if __name__ == "__main__":
    start()
