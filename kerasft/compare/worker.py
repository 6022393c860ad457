"""The process of one entry: `python -m kerasft.compare.worker score RESULT` or `... export RESULT`.

The Config comes as one line of JSON on standard input, so it is never read from a file that somebody else may have written.
Standard input stays open as long as the process that started this one lives.
"""

import gc
import json
import os
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

from kerasft.console import encoding, stderr_filter
from kerasft.settings import failures, machine
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.storage import run_folder
from kerasft.training import deferred_signals

EXIT_OK, EXIT_FAILED = 0, 1

# The time of an entry counts from here.
_BEGAN = time.monotonic()


def main(argv: list[str]) -> int:
    """Runs one entry, and writes its result: a `Scored` as JSON, or the reason of a user's mistake."""
    task, result = argv[0], Path(argv[1])
    config = Config(**json.loads(sys.stdin.readline()))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    paths = {"--run_dir": config.run_dir, "--export_dir": config.export_dir, "--cache_dir": config.cache_dir}
    try:
        return _export(config) if task == "export" else _score(config, result)
    except (Exception, KeyboardInterrupt) as error:
        status = failures.report(error, paths)
        lines = error.args if isinstance(error, UserError) else failures.describe(error, paths)
        if status == failures.EXIT_MISTAKE and task == "score":
            run_folder.write_json(result, {"reason": " ".join(map(str, lines))})
        if status is None:
            raise
        deferred_signals.clear_interrupt_mark()
        return status


def _score(config: Config, result: Path) -> int:
    from kerasft.job import score

    values = asdict(score.train_and_score(config))
    values["seconds"]["total"] = round(time.monotonic() - _BEGAN + values["earlier_seconds"], 3)
    run_folder.write_json(result, {**values, "peak_rss_mb": round(machine.peak_bytes() / 2**20, 1)})
    return EXIT_OK


def _export(config: Config) -> int:
    from kerasft.export import proof
    from kerasft.job import train
    from kerasft.job.served_baseline import GateError

    try:
        train.train(config)
    except (proof.ParityError, GateError) as error:
        failures.print_message(error.args)
        return EXIT_FAILED
    return EXIT_OK


def _end_with_parent() -> None:
    """Ends this process when its parent ends, however that ends. All that is written is atomic, so the state stays whole."""
    # Not through sys.stdin, whose lock the interpreter wants at its end.
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(failures.EXIT_STOPPED)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    encoding.escape_unprintable()
    machine.limit_threads()
    deferred_signals.stop_on_sigterm()
    failures.ignore_hdf5_cleanup()
    stderr_filter.tensorflow()
    status = main(sys.argv[1:])
    sys.stdout.flush()
    deferred_signals.ignore_sigterm()
    # Else the interpreter looks through all objects once more before it ends.
    gc.freeze()
    sys.exit(status)
