"""The command: exit statuses, help, messages. No TensorFlow is needed for any of this."""

import subprocess
import sys

import pytest
from conftest import ROOT


def test_help_is_complete_and_exits_with_0(command, tmp_path):
    for flags in (("--mode=train", "--help"), ("train", "-h"), ("--helpfull",)):
        done = command(*flags, cwd=tmp_path)
        assert done.returncode == 0
        assert all(name in done.stdout for name in ("--data", "--phases", "--[no]resume", "digits"))


@pytest.mark.parametrize("flag", ["--help", "--batch_size=zero", "--augment=flip|rotate["])
def test_help_and_mistakes_need_no_tensorflow(flag, tmp_path):
    code = "import runpy, sys; sys.argv = ['run', sys.argv[1]]\ntry: runpy.run_module('kerasft.run', run_name='__main__')\nfinally: print('tensorflow' in sys.modules, 'keras' in sys.modules, 'sklearn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, flag], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip().endswith("False False False")


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--bakbone=x", "--bakbone: no such flag (did you mean 'backbone'?); see --help. Received: '--bakbone'"),
        ("--batch_size=ten", "--batch_size: must be a whole number. Received: 'ten'"),
        ("--resume=perhaps", "--resume: must be true or false (--resume or --noresume). Received: 'perhaps'"),
        (
            "--mode=trian",
            "--mode: must be one of predict, serve, train, tune (did you mean 'train'?). Received: 'trian'",
        ),
        (
            "words",
            "the first word must be one of backbones, flags, layers, predict, presets, runs, serve, train, tune; "
            "flags are written --name=value. Received: 'words'",
        ),
        ("--flagfile=nowhere.flags", "--flagfile: cannot be opened: No such file or directory: 'nowhere.flags'"),
    ],
)
def test_a_mistake_is_one_line_and_exits_with_2(command, tmp_path, flag, message):
    done = command(flag, cwd=tmp_path)
    assert (done.returncode, done.stderr.strip(), done.stdout) == (2, message, "")


def test_the_later_flag_wins_over_the_flagfile(command, tmp_path):
    (tmp_path / "a.flags").write_text("# a comment\n--mode=wrong\n")
    before = command("--mode=predict", "--flagfile=a.flags", cwd=tmp_path)
    after = command("--flagfile=a.flags", "--mode=worse", cwd=tmp_path)
    assert "Received: 'wrong'" in before.stderr
    assert "Received: 'worse'" in after.stderr


def test_allow_imports_is_not_taken_from_a_flagfile(command, tmp_path):
    (tmp_path / "a.flags").write_text("--allow_imports=os\n")
    done = command("--flagfile=a.flags", cwd=tmp_path)
    assert done.returncode == 2
    assert "--allow_imports: is taken from the command line only" in done.stderr
