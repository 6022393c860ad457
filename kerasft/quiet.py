"""Keeps TensorFlow's known notices off the screen, and nothing else."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

_NOTICES = (  # the last two: a damaged JPEG, which the audit names
    "oneDNN custom operations",
    "All log messages before absl",
    "cuda",
    "CUDA",
    "use_unbounded_threadpool",
    "service.cc:",
    "device_compiler.h",
    "cpu_feature_guard",
    "rebuild TensorFlow",
    "XNNPACK",
    "tf_record_dataset_op.cc",
    "jpeg_mem.cc",
    "JPEG library",
)


def tensorflow() -> None:
    """Imports TensorFlow and looks for devices, in silence: here it says what it did not find."""
    # Its notices from C++, those of later calls too, by their level; nothing where it is imported already.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with notices():
        import tensorflow as tf

        tf.config.list_physical_devices()


@contextmanager
def notices() -> Iterator[None]:
    """Holds standard error back while the block runs, then shows all lines but the known notices.

    They come from C++, some before any log level is read, so the file descriptor itself is redirected.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile("w+b") as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            held.seek(0)
            for line in held.read().decode("utf-8", "replace").splitlines():
                if not any(notice in line for notice in _NOTICES):
                    print(line, file=sys.stderr)
