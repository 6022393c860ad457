"""Known notices are kept off the screen; everything else comes through, even in a crash."""

import os
import subprocess
import sys

from conftest import ROOT

CODE = """
import os, sys
from kerasft.console import stderr_filter
try:
    with stderr_filter.without_notices():
        os.write(2, b"I0000 oneDNN custom operations are on.\\n")
        os.write(2, b"something else\\n")
        print("printed", file=sys.stderr)
        raise RuntimeError("x")
except RuntimeError:
    os.write(2, b"after\\n")
"""


def test_only_known_notices_are_dropped():
    done = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stderr.splitlines() == ["something else", "printed", "after"]


LONG = """
import os, sys, time
from kerasft.console import stderr_filter
with stderr_filter.filter_lines():
    os.write(2, b"Corrupt JPEG data: 5 extraneous bytes before marker 0xd9\\n")
    print("one", file=sys.stderr, flush=True)
    sys.stdin.readline()  # until the line above has been seen
    os.write(2, b"x" * 200_000 + b"\\n")
    os.write(2, b"Corrupt JPEG data: bad Huffman code\\n")
os.write(2, b"after\\n")
"""


def test_lines_are_shown_as_they_come():
    line = [sys.executable, "-c", LONG]
    with subprocess.Popen(line, cwd=ROOT, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr.readline() == "one\n"
        _, rest = process.communicate("\n", timeout=60)
    assert rest.splitlines() == ["x" * 200_000, "after"]


def test_the_api_loads_tensorflow_in_silence():
    code = "import kerasft; kerasft.train; import tensorflow as tf; tf.config.list_logical_devices(); tf.zeros(3) + 1"
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    environment |= {"PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
