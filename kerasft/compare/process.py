"""Runs an entry in a process of its own: its peak of memory is its own, and what it leaves behind ends with it."""

import json
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import IO

from kerasft.settings import failures
from kerasft.settings.config import Config

# After a signal an entry gets so long to save its state.
SECONDS_TO_STOP = 60


def run(task: str, config: Config, result: Path, output: IO | None = None) -> int:
    """Runs `kerasft.compare.worker`, and waits for it. Returns its exit status; minus a signal that ended it.

    Args:
        task: `score` or `export`.
        config: of the entry.
        result: the file that it writes.
        output: gets what it prints; None for the standard output of this process.

    Raises:
        KeyboardInterrupt: this process or the entry got SIGINT or SIGTERM. The entry has saved its state.
    """
    line = [sys.executable, "-m", "kerasft.compare.worker", task, str(result)]
    # In a session of its own, the entry does not get the terminal's SIGINT in addition to the signal that is passed on to it.
    child = subprocess.Popen(
        line, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT if output else None, start_new_session=True
    )
    with child:
        try:
            child.stdin.write((json.dumps(asdict(config)) + "\n").encode())
            child.stdin.flush()
            status = child.wait()
        except BrokenPipeError:
            status = child.wait()
        except BaseException:
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(SECONDS_TO_STOP)
            except subprocess.TimeoutExpired:
                child.kill()
            raise
    if status == failures.EXIT_STOPPED:
        raise KeyboardInterrupt
    return status
