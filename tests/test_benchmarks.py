"""The benchmarks: what they say where a rival is missing."""

import subprocess
import sys

import pytest
from conftest import ROOT


@pytest.mark.parametrize("python", ["/bin/false", "/no/such/python"])
def test_fastai_missing_says_how_to_install_it(tmp_path, python):
    script = ROOT / "benchmarks" / "training" / "fastai_fine_tune.py"
    line = [sys.executable, script, f"--shared={tmp_path}", f"--out={tmp_path / 'out'}", f"--python={python}"]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 2
    assert "pip install fastai" in done.stderr
    assert done.stderr.rstrip().endswith(f"Received: {python}")
    assert not (tmp_path / "out").exists()
