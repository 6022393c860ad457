"""The help: what there is, then by mode only what concerns it, wrapped to the terminal."""

import shutil
import textwrap

from kerasft.settings import command_flags
from kerasft.settings import config as configs
from kerasft.settings.fields import kind_of
from kerasft.settings.modes import COMMANDS, MODES

WIDEST = 100  # columns: longer lines are hard to read
NARROWEST = 40
USAGE = "kerasft MODE [--preset=NAME] [--flagfile=FILE] [--flag=value ...]"
ORDER = "A flag after --preset or --flagfile wins over it."


def overview() -> str:
    """The modes and the commands, with an example for each mode."""
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


def of_mode(name: str) -> str:
    """The flags that concern a mode, with an example."""
    mode = MODES[name]
    lines = [*_wrapped(f"kerasft {name}: {mode.purpose}."), "", f"Usage: {USAGE.replace('MODE', name)}", ORDER]
    lines += ["", "Example:", f"  {mode.example}", "", "Flags of this mode:"]
    for flag, (_, default, text) in command_flags.COMMAND.items():
        names, rest = concerns(text)
        if flag != "mode" and name in names:
            lines += _flag(flag, default, rest[:1].upper() + rest[1:])
    if mode.trains:
        lines += _settings()
    return "\n".join(lines)


def full() -> str:
    """All flags."""
    lines = [f"Usage: {USAGE}", ORDER, "", "Flags of the command:"]
    for flag, (_, default, text) in command_flags.COMMAND.items():
        lines += _flag(flag, default, text)
    return "\n".join([*lines, *_settings()])


def of_command(name: str) -> str:
    """The argument and the flags of a command."""
    command = COMMANDS[name]
    usage = " ".join(["kerasft", name, command.argument, *(f"[--{flag}]" for flag in command.flags)])
    lines = [*_wrapped(f"kerasft {name}: {command.purpose}."), "", f"Usage: {' '.join(usage.split())}"]
    lines += ["", "Example:", f"  {command.example}"]
    for flag, text in command.flags.items():
        lines += ["", f"  --{flag}", *_wrapped(text, "      ")]
    return "\n".join(lines)


def concerns(text: str) -> tuple[tuple[str, ...], str]:
    """The modes that a flag's help begins with (`predict, serve: ...`), all of them where it names none; and the rest."""
    names, colon, rest = text.partition(": ")
    listed = tuple(names.split(", "))
    return (listed, rest) if colon and set(listed) <= MODES.keys() else (tuple(MODES), text)


def _settings() -> list[str]:
    lines, group = [], None
    for name, item in configs.FIELDS.items():
        if item.metadata["group"] != group:
            group = item.metadata["group"]
            lines += ["", f"{group.capitalize()}:"]
        shown = f"[no]{name}" if kind_of(configs.HINTS[name])[0] is bool else name
        lines += _flag(shown, item.default, item.metadata["help"])
    return lines


def _flag(name: str, default: object, text: str) -> list[str]:
    shown = "" if default in (None, "", ()) or default is False else f" [{default}]"
    return [f"  --{name}{shown}", *_wrapped(text, "      ")]


def _wrapped(text: str, indent: str = "") -> list[str]:
    width = max(NARROWEST, min(shutil.get_terminal_size().columns, WIDEST))
    return textwrap.wrap(
        text, width, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
