"""What a model costs in its runtime on this machine: start-up, memory, images a second; each in a process of its own."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Any

from kerasft.runtimes import worker

# Images of a call: a request of one image, and a full batch.
BATCH_SIZES = (1, 32)
# In each round all models answer in turn, so that what else the machine does meets all of them.
ROUNDS, SECONDS = 3, 0.3


def measure(folders: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """Measures models side by side. One that fails is left out.

    Args:
        folders: model folders by name.

    Returns:
        By name `startup_seconds` (from the start of a process to its first answer), `peak_rss_mb`, and
        `images_per_second` by batch size (the median round; decoding is not counted).
    """
    began: dict[str, _Process] = {}
    try:
        for name, folder in folders.items():
            process = _Process(folder)
            if process.ready():
                began[name] = process
            else:
                process.end()
        rates = {name: {size: [] for size in BATCH_SIZES} for name in began}
        peaks: dict[str, int] = {}
        for _ in range(ROUNDS):
            for size in BATCH_SIZES:
                for name in list(rates):
                    with _left_out(rates, name):
                        rates[name][size].append(began[name].ask(f"{size} {SECONDS}"))
        for name in list(rates):
            with _left_out(rates, name):
                peaks[name] = began[name].peak_bytes()
        return {
            name: {
                "startup_seconds": round(began[name].startup_seconds, 3),
                "peak_rss_mb": round(peaks[name] / 1e6, 1),
                "images_per_second": {str(size): round(median(found), 1) for size, found in by_size.items()},
            }
            for name, by_size in rates.items()
        }
    finally:
        for process in began.values():
            process.end()


@contextmanager
def _left_out(rates: dict[str, Any], name: str) -> Iterator[None]:
    """Leaves a model out whose process ends in the block, for lack of memory for example."""
    try:
        yield
    except (ValueError, OSError):
        del rates[name]


class _Process:
    """A `runtimes.worker`.

    Attributes:
        startup_seconds: from its start to its first answer.
    """

    def __init__(self, folder: Path):
        line = [sys.executable, "-m", worker.__name__, str(folder)]
        self._began = time.perf_counter()
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self._child = subprocess.Popen(line, **pipes, text=True)
        self.startup_seconds = 0.0

    def ready(self) -> bool:
        """Waits for the first answer. Returns False if the process has ended without one."""
        # Runtimes print lines of their own.
        found = any(line.strip() == worker.READY for line in self._child.stdout)
        self.startup_seconds = time.perf_counter() - self._began
        return found

    def ask(self, line: str) -> float:
        """Sends a line, and returns the number that it is answered with."""
        self._child.stdin.write(line + "\n")
        self._child.stdin.flush()
        return float(self._child.stdout.readline())

    def peak_bytes(self) -> int:
        """Ends the input, and returns the largest memory in bytes."""
        self._child.stdin.close()
        return int(self._child.stdout.readline())

    def end(self) -> None:
        """Ends the process, whatever it does."""
        self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            # What is left to be written has no reader any more.
            with suppress(OSError):
                pipe.close()
