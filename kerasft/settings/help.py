"""The help pages: an overview, the flags of one mode, and all flags. Text is wrapped to the terminal."""

import shutil
import textwrap

from kerasft.settings import command_flags
from kerasft.settings import config as configs
from kerasft.settings.fields import kind_of
from kerasft.settings.modes import COMMANDS, MODES, split_modes

# Columns of a line. Longer lines are hard to read; in a narrower terminal the lines break anyhow.
MAX_WIDTH = 100
MIN_WIDTH = 40
USAGE = "kerasft MODE [--preset=NAME] [--flagfile=FILE] [--flag=value ...]"
PRECEDENCE = "A flag after --preset or --flagfile wins over it."


def overview() -> str:
    """Returns the list of modes and commands, with an example for each mode."""
    lines = ["Fine-tunes image models with Keras, and proves what it exports.", "", f"Usage: {USAGE}", "", "Modes:"]
    for name, mode in MODES.items():
        lines += [f"  {name:<10} {mode.purpose}", f"  {'':<10} {mode.example}"]
    lines += ["", "Commands:", *(f"  {name:<10} {command.purpose}" for name, command in COMMANDS.items())]
    lines += [
        "",
        "kerasft MODE --help shows the flags of a mode, kerasft --helpfull all flags, kerasft --version the version.",
    ]
    lines += ["python -m kerasft.run --mode=MODE does the same as kerasft MODE."]
    return "\n".join(lines)


def mode_help(name: str) -> str:
    """Returns the flags of a mode, with an example."""
    mode = MODES[name]
    lines = [*_wrap(f"kerasft {name}: {mode.purpose}."), "", f"Usage: {USAGE.replace('MODE', name)}", PRECEDENCE]
    lines += ["", "Example:", f"  {mode.example}", "", "Flags of this mode:"]
    for flag, (_, default, text) in command_flags.COMMAND.items():
        parts = [part[:1].upper() + part[1:] for names, part in split_modes(text) if name in names]
        if flag != "mode" and parts:
            lines += _flag(flag, default, " ".join(parts))
    if mode.trains:
        lines += _settings()
    for title, names in (
        ("Settings; all others are those of the run:", mode.settings),
        ("With --target, for its steps:", mode.target_settings),
    ):
        lines += ["", title] * bool(names)
        for setting in names:
            lines += _setting(setting)
    return "\n".join(lines)


def full_help() -> str:
    """Returns all flags."""
    lines = [f"Usage: {USAGE}", PRECEDENCE, "", "Flags of the command:"]
    for flag, (_, default, text) in command_flags.COMMAND.items():
        lines += _flag(flag, default, text)
    return "\n".join([*lines, *_settings()])


def command_help(name: str) -> str:
    """Returns the argument and the flags of a command."""
    command = COMMANDS[name]
    usage = " ".join(["kerasft", name, command.argument, *(f"[--{flag}]" for flag in command.flags)])
    lines = [*_wrap(f"kerasft {name}: {command.purpose}."), "", f"Usage: {' '.join(usage.split())}"]
    lines += ["", "Example:", f"  {command.example}"]
    for flag, text in command.flags.items():
        lines += ["", f"  --{flag}", *_wrap(text, "      ")]
    return "\n".join(lines)


def _settings() -> list[str]:
    lines, group = [], None
    for name, item in configs.FIELDS.items():
        if item.metadata["group"] != group:
            group = item.metadata["group"]
            lines += ["", f"{group.capitalize()}:"]
        lines += _setting(name)
    return lines


def _setting(name: str) -> list[str]:
    item = configs.FIELDS[name]
    shown = f"[no]{name}" if kind_of(configs.HINTS[name])[0] is bool else name
    return _flag(shown, item.default, item.metadata["help"])


def _flag(name: str, default: object, text: str) -> list[str]:
    shown = "" if default in (None, "", ()) or default is False else f" [{default}]"
    return [f"  --{name}{shown}", *_wrap(text, "      ")]


def _wrap(text: str, indent: str = "") -> list[str]:
    width = max(MIN_WIDTH, min(shutil.get_terminal_size().columns, MAX_WIDTH))
    return textwrap.wrap(
        text, width, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
