"""What a user may type: the first word, presets, and help that shows what concerns a mode."""

import pytest
from conftest import ROOT

from kerasft.settings import arguments, command_flags, help, presets
from kerasft.settings import config as configs
from kerasft.settings.errors import UserError
from kerasft.settings.modes import COMMANDS, MODES


def test_a_mode_wins_over_the_flagfile_and_a_preset_keeps_its_place():
    path = presets.path("quickstart")
    typed = ["tune", "--seed=1", "--preset=quickstart", "--seed=2"]
    assert arguments.expand(typed) == ["--seed=1", f"--flagfile={path}", "--seed=2", "--mode=tune"]


@pytest.mark.parametrize("typed", [["--preset", "quickstart"], ["-preset=quickstart"], ["--preset=quickstart"]])
def test_a_preset_is_a_flagfile(typed):
    assert arguments.expand(typed) == [f"--flagfile={presets.path('quickstart')}"]


def test_flags_alone_stay_as_they_are():
    assert arguments.expand(["--mode=serve", "--model", "m", "--", "x"]) == ["--mode=serve", "--model", "m", "--", "x"]


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["trian"], "did you mean 'train'?"),
        (["backbone"], "did you mean 'backbones'?"),
        (["--preset=quickstrat"], "did you mean 'quickstart'?"),
        (["--preset=../quickstart"], "--preset: must be one of convnext_gpu,"),
        (["--preset"], "--preset: must be one of"),
        (["serve", "--mode=tune"], "--mode: is serve already; leave it. Received: '--mode=tune'"),
    ],
)
def test_a_mistake_names_what_there_is(typed, message):
    with pytest.raises(UserError) as raised:
        arguments.expand(typed)
    assert message in str(raised.value)


def test_what_is_for_the_command_line_or_for_training_alone():
    arguments.check("", True, "train")
    with pytest.raises(UserError, match="in a flagfile write --flagfile="):
        arguments.check("quickstart", False, "train")
    with pytest.raises(UserError, match="--dry_run: is for --mode=train"):
        arguments.check("", True, "serve")


def test_the_presets_are_those_of_the_source_and_say_what_they_are_for():
    assert presets.names() == sorted(path.stem for path in (ROOT / "pipelines").glob("*.flags"))
    for name in presets.names():
        assert presets.path(name).read_text().startswith(presets.PURPOSE_PREFIX)
        assert len(presets.purpose(name)) > 20


def test_the_overview_names_every_mode_and_command_with_its_example():
    text = help.overview()
    for name, mode in MODES.items():
        assert name in text and mode.example in text
    assert all(name in text and command.purpose in text for name, command in COMMANDS.items())


def test_an_example_begins_with_its_own_command():
    for name, entry in {**MODES, **COMMANDS}.items():
        assert entry.example.startswith(f"kerasft {name}")


def _shown(mode: str) -> set[str]:
    """The flags that the help of a mode lists."""
    lines = [line.strip() for line in help.mode_help(mode).splitlines() if line.startswith("  --")]
    return {line.split()[0].removeprefix("--").removeprefix("[no]") for line in lines}


def test_the_help_of_a_mode_shows_only_what_concerns_it():
    assert configs.FIELDS.keys() <= _shown("train") & _shown("tune") & _shown("lr_find") & _shown("audit")
    assert _shown("predict") == {"preset", "model", "artefact", "images", "out", "url"}
    assert "port" in _shown("serve") and "images" not in _shown("serve") and "dry_run" not in _shown("tune")
    assert "dry_run" in _shown("train") and "search" in _shown("tune")


def test_every_flag_is_in_the_help_of_some_mode():
    everywhere = set.union(*map(_shown, MODES)) | {"mode"}
    assert command_flags.COMMAND.keys() | configs.FIELDS.keys() == everywhere


@pytest.mark.parametrize("columns", ["50", "90", "200"])
def test_help_is_wrapped_to_the_terminal(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    widths = [len(line) for line in help.full_help().splitlines() if line.startswith("      ") and " " in line.strip()]
    assert max(widths) <= min(int(columns), help.MAX_WIDTH)
    assert max(widths) > min(int(columns), help.MAX_WIDTH) - 12
