"""The command without its start-up: a process that has imported everything and run nothing, and forks for each command.

The child does what `python -m kerasft.run` does, from the flags on. `test_mistakes` compares it with the command itself.
"""

import contextlib
import json
import os
import re
import resource
import runpy
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
_GPU_NOTICES = re.compile(r"^[EWI]\d{4} .*(cuda|CUDA).*\n", re.MULTILINE)


class Done(NamedTuple):
    """How a command ended. Status is minus the signal that ended it; None if it had to be killed."""

    status: int | None
    out: str
    err: str


@contextlib.contextmanager
def server() -> Iterator[subprocess.Popen]:
    """The process that forks."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120", "TF_CPP_MIN_LOG_LEVEL": "2"}
    line = [sys.executable, __file__]
    with subprocess.Popen(
        line, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        yield process
        process.stdin.close()


def run(process: subprocess.Popen, flags: list[str], cwd: Path, **given: object) -> Done:
    """Runs the command in a folder.

    Args:
        given: `seconds` until it is killed; `largest` file in bytes that it may write, as by `ulimit -f`; `env`, more
            of the environment.
    """
    asked = {"flags": flags, "cwd": str(cwd), "seconds": 60, **given}
    process.stdin.write(json.dumps(asked) + "\n")
    process.stdin.flush()
    return Done(*json.loads(process.stdout.readline()))


def without_gpu_notices(text: str) -> str:
    """The errors of a command without what only a fork prints: TensorFlow looks for a GPU again."""
    return _GPU_NOTICES.sub("", text)


def _child(asked: dict, out: int, err: int) -> int:
    os.setsid()
    os.chdir(asked["cwd"])
    os.environ.update(asked.get("env", {}))
    for number, source in enumerate((os.open(os.devnull, os.O_RDONLY), out, err)):
        os.dup2(source, number)
    encoding = os.environ.get("PYTHONIOENCODING", "utf-8")
    sys.stdout = open(1, "w", encoding=encoding, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding=encoding, errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
    if asked.get("largest"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (asked["largest"], asked["largest"]))
    sys.argv = ["kerasft/run.py", *asked["flags"]]
    try:
        runpy.run_module("kerasft.run", run_name="__main__", alter_sys=True)
        return 0
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001 - what Python does with it
        traceback.print_exc()
        return 1


def _wait(child: int, ends: tuple[int, int], seconds: float) -> list:
    """Status, output and errors of a child. By pipes: files of theirs would fall under a limit that it is given."""
    until, told, status = time.monotonic() + seconds, dict.fromkeys(ends, b""), None
    while time.monotonic() < until:
        ended, how = os.waitpid(child, os.WNOHANG)
        while ready := select.select(ends, [], [], 0 if ended else 0.005)[0]:
            parts = {end: os.read(end, 1 << 16) for end in ready}
            told = {end: text + parts.get(end, b"") for end, text in told.items()}
            if not any(parts.values()):
                break
        if ended:
            status = os.waitstatus_to_exitcode(how)
            break
    else:
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return [status, *(told[end].decode("utf-8", "backslashreplace") for end in ends)]


def _serve() -> None:
    from kerasft.export import saved_model
    from kerasft.job import train
    from kerasft.predict import chunks, label_images, local, remote, table_files
    from kerasft.serve import server
    from kerasft.tune import search

    assert all((saved_model, train, label_images, chunks, table_files, local, remote, search, server))
    answers = os.fdopen(os.dup(1), "w")
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        (out, out_end), (err, err_end) = os.pipe(), os.pipe()
        child = os.fork()
        if not child:
            status = _child(asked, out_end, err_end)
            with contextlib.suppress(Exception):
                sys.stdout.flush()
            os._exit(status)
        os.close(out_end)
        os.close(err_end)
        print(json.dumps(_wait(child, (out, err), asked["seconds"])), file=answers, flush=True)
        os.close(out)
        os.close(err)


if __name__ == "__main__":
    sys.path[:] = [place for place in sys.path if Path(place or ".").resolve() != Path(__file__).parent]
    _serve()
