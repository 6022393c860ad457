"""Imports of large packages."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Imports are a million objects that stay. Looking through them again and again takes a quarter of their time."""
    if "tensorflow" in sys.modules:
        # What is there already may be garbage of others, which must not be kept for ever.
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
