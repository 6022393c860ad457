"""Keeps TensorFlow's known notices off the screen, and nothing else."""

import fcntl
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kerasft.settings.errors import printable

# What libjpeg says of a JPEG that it can still decode, straight to standard error and without a name: the audit has it.
DAMAGE = (
    "Corrupt JPEG data",
    "Premature end of JPEG file",
    "Inconsistent progression sequence",
    "Invalid SOS parameters",
)
# What libjpeg says of a JPEG that it cannot decode (its jerror.h). The audit rejects that file by name.
_UNDECODABLE = (
    "jpeg_mem.cc",
    "JPEG library",
    "Input file read error",
    "Bogus ",
    "Empty JPEG image",
    "Huffman table 0x",
    "Invalid JPEG file structure",
    "Invalid component ID",
    "Not a JPEG file",
    "Quantization table 0x",
    "Unsupported JPEG",
    "Unsupported marker type",
)
_NOTICES = (
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
    *_UNDECODABLE,
    *DAMAGE,
)


def tensorflow() -> None:
    """Imports TensorFlow and looks for devices, in silence: here it says what it did not find."""
    # Its notices from C++, those of later calls too, by their level; nothing where it is imported already.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with without_notices():
        import tensorflow as tf

        tf.config.list_physical_devices()


@contextmanager
def without_notices() -> Iterator[None]:
    """Holds standard error back while the block runs, then shows all lines but the known notices.

    They come from C++, some before any log level is read, so the file descriptor itself is redirected.
    """
    with captured():
        yield


@contextmanager
def captured() -> Iterator[Callable[[], list[str]]]:
    """As `without_notices`; gives a function to the lines that have come since it was last called."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile("w+b") as held:
        bytes_read = 0

        def lines() -> list[str]:
            nonlocal bytes_read
            text = os.pread(held.fileno(), os.fstat(held.fileno()).st_size - bytes_read, bytes_read)
            bytes_read += len(text)
            return text.decode("utf-8", "replace").splitlines()

        os.dup2(held.fileno(), 2)
        try:
            yield lines
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            bytes_read = 0
            for line in lines():
                if not any(notice in line for notice in _NOTICES):
                    print(printable(line), file=sys.stderr)


@contextmanager
def filtered() -> Iterator[None]:
    """As `without_notices`, but shows each line as it comes: for what runs for long."""
    sys.stderr.flush()
    kept, (source, sink) = os.dup(2), os.pipe()
    if hasattr(fcntl, "F_SETPIPE_SZ"):  # so that whoever writes need not wait for the thread below
        fcntl.fcntl(sink, fcntl.F_SETPIPE_SZ, 1 << 20)

    def pass_on() -> None:
        with open(source, "rb") as lines:
            for line in lines:
                if not any(notice in line.decode("utf-8", "replace") for notice in _NOTICES):
                    os.write(kept, line)

    thread = threading.Thread(target=pass_on, daemon=True)
    thread.start()
    os.dup2(sink, 2)
    os.close(sink)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)  # closes the other end, unless a process that was started has it too
        thread.join(1)
        if not thread.is_alive():
            os.close(kept)
