"""Signals that wait for a safe moment: a step is finished and saved before the run stops."""

import signal
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
