"""Signals that wait for a safe moment: a step is finished and saved before the run stops."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def deferred() -> Iterator[Callable[[], bool]]:
    """Holds SIGINT and SIGTERM back while the block runs; gives a function that says whether one has come.

    One that nobody has acted upon is raised as KeyboardInterrupt at the end of the block; a second one at once.
    Outside of the main thread, where Python takes no signals, it never says so.
    """
    came = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return

    def note(signum: int, frame: object) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(signum)

    before = {number: signal.signal(number, note) for number in _SIGNALS}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt


def stop_on_sigterm() -> None:
    """Lets SIGTERM raise KeyboardInterrupt, as SIGINT does, and sends a signal again that Python has swallowed.

    A signal may strike inside a `__del__` or a callback from C. Python prints what is raised there, and goes on: the run
    would not stop.
    """

    def stop(signum: int, frame: object) -> None:
        raise KeyboardInterrupt

    def swallowed(found: "sys.UnraisableHookArgs") -> None:
        if found.exc_type is not KeyboardInterrupt:
            sys.__unraisablehook__(found)
            return
        # Not at once: it would strike inside this hook. To the main thread: another one would not wake it.
        main = threading.main_thread().ident
        again = threading.Timer(0.05, signal.pthread_kill, (main, signal.SIGTERM))
        again.daemon = True
        again.start()

    signal.signal(signal.SIGTERM, stop)
    sys.unraisablehook = swallowed


def clear_interrupt_mark() -> None:
    """Tells Python that a KeyboardInterrupt has been dealt with, so that the exit status is ours.

    One that was raised inside `exec` or `eval` of a text leaves a mark in the interpreter, and `python -m` then ends as
    if by SIGINT, whatever the status is (CPython, `run_eval_code_obj`). The next `exec` takes the mark off.
    """
    exec("")


def ignore_sigterm() -> None:
    """Ignores SIGTERM from now on: the work is done, and its status stands.

    While the interpreter ends, Python gives signals back to the system, and a late SIGTERM would replace the status.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
