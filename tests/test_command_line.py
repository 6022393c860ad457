"""The command as it is typed: the console script and the module do the same."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags
from conftest import ROOT
from finished import run_folder

from kerasft import __version__, command_line, commands
from kerasft.settings import help
from kerasft.settings.config import FIELDS
from kerasft.settings.errors import UserError
from kerasft.settings.modes import COMMANDS, MODES
from kerasft.slim.step_settings import STEP_SETTINGS


def test_alone_the_script_shows_the_short_help_and_the_module_trains(command, tmp_path):
    done = command(cwd=tmp_path, module="kerasft")
    assert (done.returncode, done.stderr, done.stdout.strip()) == (0, "", help.overview().strip())


@pytest.mark.parametrize("module", ["kerasft", "kerasft.run"])
def test_both_ways_in_give_the_same(command, tmp_path, module):
    done = command("trian", cwd=tmp_path, module=module)
    assert done.returncode == 2 and "did you mean 'train'?" in done.stderr and not done.stdout
    done = command("predict", "--port=zero", cwd=tmp_path, module=module)
    assert (done.returncode, done.stderr) == (2, "--port: must be a whole number. Received: 'zero'\n")
    done = command("--version", cwd=tmp_path, module=module)
    assert (done.returncode, done.stdout.strip()) == (0, __version__)


def test_a_flag_after_a_preset_wins_and_one_before_loses(command, tmp_path):
    after = command("train", "--preset=quickstart", "--batch_size=0", cwd=tmp_path, module="kerasft")
    before = command("--image_size=1", "--preset=quickstart", "--dry_run", "--test_fraction=7", cwd=tmp_path)
    assert (after.returncode, after.stderr) == (2, "--batch_size: must be in [1, 65536]. Received: 0\n")
    # The size of the preset took the place of the one that is too small: only the fraction is refused.
    assert before.stderr == "--test_fraction: must be in [0.01, 0.9]. Received: 7.0\n"
    assert before.stdout == "--image_size=1: not used; --preset=quickstart stands after it and sets --image_size=64\n"


@pytest.mark.parametrize("name", ["own_folder", "resnet50_gpu"])
def test_a_preset_for_own_images_does_not_take_the_embedded_ones(name, command, tmp_path):
    done = command("train", f"--preset={name}", cwd=tmp_path, module="kerasft")
    assert done.returncode == 2 and done.stderr.startswith("--data: is needed with this preset, which names no images")
    assert done.stderr.endswith(f"Received: '--preset={name}'\n") and not any(tmp_path.iterdir())


def test_a_preset_in_a_flagfile_is_refused(command, tmp_path):
    (tmp_path / "a.flags").write_text("--preset=quickstart\n")
    done = command("--flagfile=a.flags", cwd=tmp_path)
    assert done.returncode == 2 and "--preset: is for the command line" in done.stderr


@pytest.mark.parametrize("name", MODES)
def test_help_by_mode(capsys, name):
    assert command_line.print_help_or_run_command([name, "--help"])
    first = capsys.readouterr().out
    assert command_line.print_help_or_run_command([f"--mode={name}", "-h"])
    assert capsys.readouterr().out == first == help.mode_help(name) + "\n"


def test_a_flag_of_several_modes_says_in_each_what_it_does_there():
    shown = {name: " ".join(help.mode_help(name).split()) for name in ("predict", "explain", "tune")}
    assert "--model A SavedModel" in shown["predict"] and "--model The folder of a finished run." in shown["explain"]
    assert "By default test images" in shown["explain"] and "By default test images" not in shown["predict"]
    assert "--model" not in shown["tune"]


def test_the_settings_of_a_mode_that_trains_nothing_are_named():
    for name in ("compress", "explain"):
        own = {*MODES[name].settings, *MODES[name].target_settings}
        shown = help.mode_help(name)
        assert own <= FIELDS.keys()
        assert all(f"  --{'[no]' * (one == 'resume')}{one}" in shown for one in own)
        assert "--tta" not in shown
    assert {*STEP_SETTINGS} <= {*MODES["compress"].settings, *MODES["compress"].target_settings}


@pytest.mark.parametrize("name", COMMANDS)
def test_help_by_command(capsys, name):
    assert command_line.print_help_or_run_command([name, "--help"])
    assert COMMANDS[name].example in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (
            PermissionError(errno.EACCES, os.strerror(errno.EACCES), "runs/a"),
            2,
            "permission denied. Received: 'runs/a'",
        ),
        (ModuleNotFoundError("No module named 'keras'", name="keras"), 2, "this needs the package keras"),
        (KeyboardInterrupt(), 3, "stopped"),
    ],
)
def test_a_command_that_fails_says_so_in_a_line(monkeypatch, capsys, error, status, says):
    def fail(name, words):
        raise error

    monkeypatch.setattr(command_line.commands, "run", fail)
    with pytest.raises(SystemExit) as ended:
        command_line.parse(["kerasft", "runs"], flags.FlagValues())
    assert ended.value.code == status and says in capsys.readouterr().err


def test_a_fault_of_the_program_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(command_line.commands, "run", lambda name, words: {}["missing"])
    with pytest.raises(KeyError):
        command_line.parse(["kerasft", "runs"], flags.FlagValues())


def test_help_for_an_unknown_mode():
    with pytest.raises(UserError, match="did you mean 'serve'"):
        command_line.print_help_or_run_command(["serv", "--help"])


def test_a_run_is_not_answered_here():
    assert not command_line.print_help_or_run_command([])
    assert not command_line.print_help_or_run_command(["train", "--data=digits"])


@pytest.mark.parametrize(
    ("name", "typed", "message"),
    [
        ("backbones", ["x"], "kerasft backbones: takes no argument, such as: kerasft backbones. Received: 'x'"),
        ("layers", [], "takes one argument, BACKBONE, such as: kerasft layers"),
        ("layers", ["a", "b"], "Received: 'a b'"),
        ("runs", ["--uot=x.html"], "--uot: kerasft runs takes --out (did you mean 'out'?). Received: '--uot=x.html'"),
        ("runs", ["--out"], "--out: needs a value. Received: '--out'"),
        ("layers", ["a", "--all=1"], "--all: takes no value. Received: '--all=1'"),
        ("flags", ["--markdown"], "--markdown: kerasft flags takes no flags. Received: '--markdown'"),
    ],
)
def test_a_mistake_behind_a_command(name, typed, message):
    with pytest.raises(UserError) as raised:
        commands.run(name, typed)
    assert message in str(raised.value)


def test_what_trains_nothing_imports_no_tensorflow(tmp_path):
    run_folder(tmp_path / "runs" / "one", "single_label", ["ants", "bees"])
    lines = [
        ["--help"],
        ["--helpfull"],
        ["train", "--help"],
        ["--version"],
        ["backbones"],
        ["presets"],
        ["flags"],
        ["runs", str(tmp_path / "runs")],
    ]
    code = f"""
import sys
from kerasft import command_line, run
for words in {lines!r}:
    assert command_line.print_help_or_run_command(words)
print(sorted({{name.partition('.')[0] for name in sys.modules}} & {{'tensorflow', 'keras', 'sklearn', 'scipy'}}))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_help_imports_nothing_that_takes_long():
    code = """
import sys
from kerasft import command_line, run
for words in (["--help"], ["train", "--help"], ["--helpfull"], ["--version"]):
    assert command_line.print_help_or_run_command(words)
print(sorted({name.partition('.')[0] for name in sys.modules} & {'numpy', 'rich', 'jinja2', 'PIL', 'keras', 'tensorflow'}))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
@pytest.mark.parametrize("word", ["--help", "--version", "presets"])
def test_a_full_standard_output_is_one_message(word):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "kerasft.run", word], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("standard output: cannot be written. Received: ")


def test_the_script_finds_an_allowed_package_in_the_working_directory(tmp_path):
    script = tmp_path / "bin" / "kerasft_script.py"
    for path, text in (
        (script, "from kerasft.__main__ import console\nconsole()\n"),
        (tmp_path / "place" / "mypack.py", ""),
    ):
        path.parent.mkdir()
        path.write_text(text)
    asked = ["train", "--data=generated:2x8", "--image_size=32", "--backbone=MobileNet(alpha=0.25)", "--weights=none"]
    asked += ["--optimizer=mypack.Best", "--phases=all(epochs=1)", "--allow_imports=mypack", "--dry_run"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(script), *asked],
        cwd=tmp_path / "place",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "--optimizer: cannot import mypack.Best: module 'mypack' has no attribute 'Best'" in done.stderr
