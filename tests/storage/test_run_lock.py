"""One run at a time: the second is told who the first is, and a killed one's lock is taken over."""

import json
import os
import platform
import signal
import subprocess
import sys

import pytest
from conftest import ROOT

from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.storage import run_folder, run_lock

_HOLD = """
import sys, time
from pathlib import Path
from kerasft.storage import run_lock
with run_lock.locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def _holder(folder) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-c", _HOLD, str(folder)]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout.readline() == "held\n"
    return process


def test_the_second_run_is_told_who_the_first_is_and_a_dead_ones_lock_is_taken_over(tmp_path, capsys):
    process = _holder(tmp_path / "r")
    try:
        owner = json.loads((tmp_path / "r" / ".owner.json").read_text())
        assert (owner["pid"], owner["host"]) == (process.pid, platform.node())
        message = f"process {process.pid} on {platform.node()}, since {owner['since']}"
        with pytest.raises(UserError) as caught, run_lock.locked(tmp_path / "r"):
            pass
        assert str(caught.value).startswith("--run_dir: another run is working in it (" + message)
        assert (tmp_path / "r" / ".owner.json").exists()
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    with run_lock.locked(tmp_path / "r"):
        assert json.loads((tmp_path / "r" / ".owner.json").read_text())["pid"] == os.getpid()
    assert "taken over from a run that was killed (" + message in capsys.readouterr().out
    assert not (tmp_path / "r" / ".owner.json").exists()


def test_what_a_lock_leaves_is_no_other_content(tmp_path):
    with run_lock.locked(tmp_path):
        assert run_folder.open_folder(Config(run_dir=str(tmp_path)), "digits") == (tmp_path, None)


@pytest.mark.parametrize("begun", [False, True])
def test_a_run_that_never_began_leaves_no_folder(begun, tmp_path):
    """As where the weights of its network cannot be downloaded."""
    folder = tmp_path / "runs" / "r"
    with pytest.raises(UserError), run_lock.locked(folder):
        run_folder.open_folder(Config(run_dir=str(folder)), "digits")
        if begun:
            run_folder.write_json(folder / "audit.json", {})
        raise UserError("--weights: imagenet could not be downloaded")
    assert (tmp_path / "runs").exists() == folder.exists() == begun
    # Whoever waits for it gets a lock of its own.
    with run_lock.locked(folder):
        assert (folder / ".lock").exists()


def test_a_folder_that_was_there_before_or_in_which_all_went_well_stays(tmp_path):
    with pytest.raises(UserError), run_lock.locked(tmp_path):
        run_folder.open_folder(Config(run_dir=str(tmp_path)), "digits")
        raise UserError("--weights: imagenet could not be downloaded")
    # `lr_find` writes its results after the block.
    with run_lock.locked(tmp_path / "r"):
        run_folder.open_folder(Config(run_dir=str(tmp_path / "r")), "digits")
    assert (tmp_path / "config.json").exists() and (tmp_path / "r" / "config.json").exists()
