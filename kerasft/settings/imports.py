"""Imports of large packages, and of those that `--allow_imports` names."""

import gc
import os
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


def search_working_directory() -> None:
    """Lets Python look for modules in the working directory too, as `python -m` does; last, so that none there hides another.

    `python -P` and PYTHONSAFEPATH forbid it.
    """
    if not sys.flags.safe_path and not {"", os.getcwd()} & {*sys.path}:
        sys.path.append(os.getcwd())
