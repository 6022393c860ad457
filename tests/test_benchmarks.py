"""The benchmarks: they are listed, their scripts can be found and started, and they say where a rival is missing."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT

from benchmarks import ROOMS
from benchmarks.__main__ import commands, main
from benchmarks.bench import SHORT

SCRIPTS = [script for room in ROOMS for script in sorted((ROOT / "benchmarks" / room).glob("*.py")) if commands(script)]


def test_every_benchmark_is_listed(capsys):
    main()
    said = capsys.readouterr().out
    assert {path.name for path in (ROOT / "benchmarks").iterdir() if any(path.glob("*.py"))} == set(ROOMS)
    for script in SCRIPTS:
        assert f"python benchmarks/{script.parent.name}/{script.name}" in said
    assert {"training/keras_guide.py", "training/kills.py"} <= {f"{path.parent.name}/{path.name}" for path in SCRIPTS}


def test_the_short_form_names_scripts_that_are_there():
    for script in SHORT:
        assert ROOT / "benchmarks" / script in SCRIPTS


@pytest.mark.large
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_every_benchmark_has_help(script):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    line = [sys.executable, script, "--help"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, env=environment)
    assert (done.returncode, done.stdout[:6]) == (0, "usage:"), done.stderr[-1000:]


@pytest.mark.parametrize("python", ["/bin/false", "/no/such/python"])
def test_fastai_missing_says_how_to_install_it(tmp_path, python):
    script = ROOT / "benchmarks" / "training" / "fastai_fine_tune.py"
    line = [sys.executable, script, f"--shared={tmp_path}", f"--out={tmp_path / 'out'}", f"--python={python}"]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 2
    assert "pip install fastai" in done.stderr
    assert done.stderr.rstrip().endswith(f"Received: {python}")
    assert not (tmp_path / "out").exists()
