"""The command: exit statuses, help, messages. No TensorFlow is needed for any of this."""

import os
import subprocess
import sys

import pytest
from absl import flags
from conftest import ROOT

from kerasft import run
from kerasft.settings import command_flags


def test_help_is_complete_and_exits_with_0(command, tmp_path):
    for words in (("--mode=train", "--help"), ("train", "-h"), ("--helpfull",)):
        done = command(*words, cwd=tmp_path)
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
            "--mode: must be one of audit, compare, compress, explain, lr_find, predict, serve, train, tune (did you mean 'train'?). Received: 'trian'",
        ),
        (
            "words",
            "the first word must be one of audit, backbones, compare, compress, explain, flags, layers, lr_find, predict, presets, rebuild, runs, serve, train, tune; "
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


@pytest.mark.parametrize("deterministic", [True, False])
def test_the_notice_of_deterministic_input_streams_is_kept_off_the_screen(deterministic):
    lines = ["E0000 node_def_util.cc:682] NodeDef mentions attribute use_unbounded_threadpool which is not", "another"]
    code = f"import os; from kerasft import run; run._run = lambda *_: 0 * os.write(2, {chr(10).join([*lines, ''])!r}.encode()); run.start()"
    line = [sys.executable, "-c", code, "train", f"--{'' if deterministic else 'no'}deterministic"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.splitlines()) == (0, lines[deterministic:])


_FILES = {  # of a stranger: name -> lines
    "a.flags": "--allow_imports=os\n",
    "allow_imports_s1.flags": "--augment=os.mkdir('broken_in')\n--allow_imports=os\n",
    "inner.flags": "--allow_imports=os\n--head_init=os.mkdir('broken_in')\n",
    "nested.flags": "--flagfile=inner.flags\n",
    "two_words.flags": "--allow_imports\nos\n",
    "open.flags": "--allow_imports",
    "search.flags": "--mode=tune\n--search=lr=planted.run(1)\n",
    "tuner.flags": "--mode=tune\n--search=lr=log(1e-4, 1e-2)\n--tuner=planted.run()\n",
    "winner.flags": "--mode=tune\n--search=lr=log(1e-4, 1e-2)\n--winner_phases=planted.run()\n--phases=head(epochs=2)\n",
    "plain.flags": "--augment=planted.run()\n",
    "loss.flags": "--loss=os.getcwd()\n",
    "layer.flags": "--augment=os.mkdir('broken_in')\n",
    "start.flags": "--head_init=os.mkdir('broken_in')\n",
    "phase.flags": "--phases=all(optimizer=os.mkdir('broken_in'))\n",
    "schedule.flags": "--schedule=os.mkdir('broken_in')\n",
}


@pytest.mark.parametrize(
    "line",
    [
        ("--flagfile=a.flags",),
        ("--flagfile", "allow_imports_s1.flags"),
        ("--allow_imports=keras", "--flagfile=allow_imports_s1.flags"),
        ("--flagfile=nested.flags",),
        ("--flagfile=nested.flags", "--allow_imports=keras"),
        ("--flagfile=two_words.flags",),
        ("--flagfile=open.flags", "os"),
        ("--flagfile=search.flags",),
        ("--flagfile=tuner.flags",),
        ("--flagfile=winner.flags",),
        ("--flagfile=plain.flags",),
        *(
            (f"--flagfile={name}.flags", "--allow_imports=os")
            for name in ("loss", "layer", "start", "phase", "schedule")
        ),
    ],
)
def test_a_strangers_flagfile_runs_no_code(command, tmp_path, line):
    for name, text in _FILES.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "planted.py").write_text("import os\nos.mkdir('broken_in')\n")
    done = command(*line, "--data=generated:2x20", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("--")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "broken_in").exists()


def test_allowed_packages_of_the_command_line_are_taken_in_both_forms():
    for words in (["--allow_imports=a,b"], ["--allow_imports", "a,b"], ["-allow_imports=x", "--allow_imports=a,b"]):
        values = flags.FlagValues()
        command_flags.define_flags(values)
        assert command_flags.parse(values, ["run", *words, "rest"]) == ["run", "rest"]
        assert command_flags.make_config(values).allow_imports == ("a", "b")


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        (
            "--lr=1e-3",
            "--lr: is no flag of its own; write it as an argument of a phase, such as --phases='head | all(epochs=5, lr=1e-4)'.",
        ),
        ("--epochs=3", "--epochs: is no flag of its own; write it as an argument of a phase"),
        ("--label_smoothing=0.1", "--loss='cross_entropy(label_smoothing=0.1)'"),
        ("--run_dir=a\udcff", "--run_dir: must be UTF-8 text without NUL characters. Received: 'a\\udcff'"),
        ("--mode=a\x1b[2J\u202e", r"Received: 'a\x1b[2J\u202e'"),
        ("--seed=1\n--data=x", r"--seed: must be a whole number. Received: '1\n--data=x'"),
        ("--data=nowhere", "tfds:NAME, or an existing folder or .csv file. Received: 'nowhere'"),
        ("--run_dir=" + 300 * "x", "--run_dir: the name is too long for this file system"),
        ("--run_dir=/proc/nothing", "--run_dir: No such file or directory. Received: '/proc/nothing'"),
        ("--phases=all(optimizer='sgd')", "--phases: all() optimizer must be a name or a call, without quotes."),
        ("--head=mlp(units=0)", "--head: mlp() units must be whole numbers of at least 1, such as (256, 128)."),
        ("--val_fraction=0.6", "--val_fraction: together with --test_fraction must be below 1"),
    ],
)
def test_a_message_says_what_to_do(command, tmp_path, flag, message):
    done = command(
        flag, "--data=generated:2x20" if "--data" not in flag else "--seed=1", "--test_fraction=0.5", cwd=tmp_path
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "saved_models").exists()


def test_a_flagfile_that_is_not_utf8_is_named(command, tmp_path):
    (tmp_path / "latin.flags").write_bytes(b"--data=caf\xe9\n")
    done = command("--flagfile=latin.flags", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (
        2,
        "--flagfile: must be UTF-8 text (byte 0xe9 at 10). Received: 'latin.flags'\n",
    )


def test_help_that_nobody_reads_to_its_end_is_no_error(tmp_path):
    line = f"{sys.executable} -m kerasft.run --help | true; exit ${{PIPESTATUS[0]}}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", line], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    assert done.returncode in (0, 3)


def test_without_flags_the_first_line_says_what_is_done(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["run"])
    monkeypatch.setattr(run, "_run", lambda settings, asked: run.EXIT_OK)
    values = flags.FlagValues()
    command_flags.define_flags(values)
    command_flags.parse(values, ["run"])
    monkeypatch.setattr(run.flags, "FLAGS", values)
    assert run.main(["run"]) == 0
    first = capsys.readouterr().out
    assert first.startswith("No flags were given, so this is an example")
    assert all(part in first for part in ("runs/", "saved_models/", "--data=DIR", "--help"))
