"""A Config on disk: the text of a flagfile, and what is read from a `config.json`."""

import json
from dataclasses import asdict, fields
from typing import Any

from kerasft.settings.config import FIELDS, LOCATIONS, Config


def to_flags(config: Config, others: dict[str, Any] | None = None) -> str:
    """The text of a flagfile that gives this Config (and `--allow_imports` as a comment, see the README).

    Args:
        others: values of further flags by name, such as those of a search.
    """
    lines = []
    for item in fields(config):
        value = getattr(config, item.name)
        if isinstance(value, bool):
            lines.append(f"--{'' if value else 'no'}{item.name}")
        elif isinstance(value, tuple):
            lines += [f"# needs on the command line: --{item.name}={','.join(value)}"] if value else []
        elif value is not None:
            lines.append(_line(item.name, value))
    lines += [_line(name, value) for name, value in (others or {}).items()]
    return "\n".join(lines) + "\n"


def _line(name: str, value: Any) -> str:
    """A flag in one line: a flagfile takes each line as a flag of its own."""
    return f"--{name}={' '.join(str(value).splitlines())}"


def from_stored(stored: dict[str, Any], **changes: Any) -> Config:
    """The Config of a stored `config.json`. A setting that only another version has is left out.

    Args:
        stored: the contents of the file.
        changes: settings that differ from it.
    """
    return Config(**{name: value for name, value in stored.items() if name in FIELDS} | changes)


def differences(ours: Config, theirs: dict[str, Any]) -> list[str]:
    """`name: theirs, now ours` for each setting that differs from a stored `config.json`.

    A setting that the file does not have came with a later version. It counts as its default.
    """
    now, defaults = (json.loads(json.dumps(asdict(one))) for one in (ours, Config()))
    then = defaults | theirs
    changed = [name for name, value in now.items() if name not in LOCATIONS and then[name] != value]
    return [f"{name}: {then[name]!r} then, {now[name]!r} now" for name in changed]
