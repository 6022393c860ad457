"""Known notices are kept off the screen; everything else comes through, even in a crash."""

import subprocess
import sys

from conftest import ROOT

CODE = """
import os, sys
from kerasft import quiet
try:
    with quiet.notices():
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
