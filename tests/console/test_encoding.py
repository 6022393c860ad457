"""The encoding of what is printed."""

import os
import subprocess
import sys

from conftest import ROOT


def test_what_the_encoding_of_the_output_lacks_is_escaped():
    line = "from kerasft.console import console, encoding; encoding.escape_unprintable(); console.say('3\u00a0s \u2013 caf\u00e9')"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", line], env=environment, capture_output=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, rb"3\xa0s \u2013 caf\xe9" + os.linesep.encode()), done.stderr
