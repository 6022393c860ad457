"""`kerasft flags`: prints all flags as a Markdown page, `docs/flags.md`."""

from kerasft.console.columns import write
from kerasft.settings import command_flags
from kerasft.settings import config as configs
from kerasft.settings.fields import kind_of
from kerasft.settings.modes import COMMANDS, MODES


def run(argument: str) -> None:
    """Prints the page."""
    write(page())


def page() -> str:
    """Returns tables of the modes and commands, the flags of the command, and the flags of a run by group."""
    lines = ["# Flags", ""]
    lines += ["This page is made by `make flags` from the same source as `kerasft --help`. Do not edit it.", ""]
    lines += ["Flags are written `--name=value`. A flag after `--preset=` or `--flagfile=` wins over it.", ""]
    lines += ["## Modes and commands", "", "| command | what it does |", "| --- | --- |"]
    lines += [f"| `kerasft {name}` | {_cell(mode.purpose)} |" for name, mode in MODES.items()]
    for name, command in COMMANDS.items():
        words = [name, *([command.argument] if command.argument else []), *(f"[--{flag}]" for flag in command.flags)]
        lines.append(f"| `kerasft {_cell(' '.join(words))}` | {_cell(command.purpose)} |")
    lines += ["", "## Of the command", "", *_HEAD]
    lines += [_row(name, default, text) for name, (_, default, text) in command_flags.COMMAND.items()]
    group = None
    for name, item in configs.FIELDS.items():
        if item.metadata["group"] != group:
            group = item.metadata["group"]
            lines += ["", f"## Of a run: {group}", "", *_HEAD]
        shown = f"[no]{name}" if kind_of(configs.HINTS[name])[0] is bool else name
        lines.append(_row(shown, item.default, _text(item.metadata)))
    return "\n".join(lines)


_HEAD = ("| flag | default | what it does |", "| --- | --- | --- |")


def _row(name: str, default: object, text: str) -> str:
    shown = {True: "on", False: "off"}.get(default, default) if isinstance(default, bool) else default
    return f"| `--{name}` | {'' if shown in (None, '', ()) else f'`{shown}`'} | {_cell(text)} |"


def _text(rules: dict) -> str:
    """Returns the help of a setting. Adds its choices or its range if the help does not name them."""
    text = rules["help"]
    if missing := [choice for choice in rules.get("choices", ()) if choice not in text]:
        return f"{text} One of: {', '.join(rules['choices'])}." if missing else text
    return f"{text} In [{rules['low']}, {rules['high']}]." if "low" in rules else text


def _cell(text: str) -> str:
    """Escapes the text of a table cell: a bar would end the cell, and an angle bracket would begin HTML."""
    return text.replace("|", "\\|").replace("<", "&lt;")
