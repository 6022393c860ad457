"""Filters TensorFlow's known notices from standard error. All other lines are printed."""

import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kerasft.settings.errors import printable

try:
    import fcntl
# Windows does not have it.
except ImportError:
    fcntl = None

# libjpeg prints these about a JPEG that is damaged but can be decoded, without its name. The audit names the file.
DAMAGE = (
    "Corrupt JPEG data",
    "Premature end of JPEG file",
    "Inconsistent progression sequence",
    "Invalid SOS parameters",
)
# libjpeg prints these about a JPEG that it cannot decode (see its jerror.h). The audit rejects the file by name.
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
    """Imports TensorFlow and lists its devices, without its notices about what it did not find."""
    # Sets the level of the C++ log, also for later calls. This has no effect if TensorFlow is imported already.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with without_notices():
        import tensorflow as tf

        tf.config.list_physical_devices()


@contextmanager
def without_notices() -> Iterator[None]:
    """Holds standard error back while the block runs, then prints all lines except the known notices.

    C++ code writes some notices before it reads a log level. So the file descriptor itself is redirected.
    """
    with capture_lines():
        yield


@contextmanager
def capture_lines() -> Iterator[Callable[[], list[str]]]:
    """Does the same as `without_notices`. Yields a function that returns the lines since its last call."""
    sys.stderr.flush()
    original_stderr = os.dup(2)
    with tempfile.TemporaryFile("w+b") as buffer:
        bytes_read = 0

        def lines() -> list[str]:
            nonlocal bytes_read
            text = os.pread(buffer.fileno(), os.fstat(buffer.fileno()).st_size - bytes_read, bytes_read)
            bytes_read += len(text)
            return text.decode("utf-8", "replace").splitlines()

        os.dup2(buffer.fileno(), 2)
        try:
            yield lines
        finally:
            sys.stderr.flush()
            os.dup2(original_stderr, 2)
            os.close(original_stderr)
            bytes_read = 0
            for line in lines():
                if not any(notice in line for notice in _NOTICES):
                    print(printable(line), file=sys.stderr)


@contextmanager
def filter_lines() -> Iterator[None]:
    """Does the same as `without_notices`, but prints each line at once: for blocks that run long."""
    sys.stderr.flush()
    original_stderr, (source, sink) = os.dup(2), os.pipe()
    # A large pipe, so that a writer need not wait for the thread below.
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        fcntl.fcntl(sink, fcntl.F_SETPIPE_SZ, 1 << 20)

    def pass_on() -> None:
        with open(source, "rb") as lines:
            for line in lines:
                if not any(notice in line.decode("utf-8", "replace") for notice in _NOTICES):
                    os.write(original_stderr, line)

    thread = threading.Thread(target=pass_on, daemon=True)
    thread.start()
    os.dup2(sink, 2)
    os.close(sink)
    try:
        yield
    finally:
        sys.stderr.flush()
        # This closes the other end of the pipe, unless a child process has it too.
        os.dup2(original_stderr, 2)
        thread.join(1)
        if not thread.is_alive():
            os.close(original_stderr)
