"""The flags of the command line, made from the fields of Config, and the words for what is wrong with them."""

import re
from typing import Any

from absl import flags

from kerasft import config
from kerasft.errors import did_you_mean


class _Parser(flags.ArgumentParser):
    """Text of a flag to the type of its field, with a message in our words."""

    def __init__(self, kind: type):
        self.kind = kind

    def parse(self, argument: Any) -> Any:
        if not isinstance(argument, str):
            return argument
        try:
            return self.kind(argument)
        except ValueError:
            raise ValueError(f"must be {config.KINDS[self.kind]}") from None

    def flag_type(self) -> str:
        return self.kind.__name__


def define_flags(flag_values: flags.FlagValues) -> None:
    """Defines a flag for every field of Config, with its default, group and help text."""
    for name, item in config.FIELDS.items():
        kind, _ = config.kind_of(name)
        if kind is bool:
            flags.DEFINE_boolean(name, item.default, item.metadata["help"], flag_values=flag_values)
        elif kind is tuple:
            flags.DEFINE_list(name, list(item.default), item.metadata["help"], flag_values=flag_values)
        else:
            flags.DEFINE(_Parser(kind), name, item.default, item.metadata["help"], flag_values=flag_values)


def from_flags(flag_values: flags.FlagValues) -> config.Config:
    """The Config that parsed flags give."""
    return config.Config(**{name: flag_values[name].value for name in config.FIELDS})


def help_text() -> str:
    """The flags of Config by group, with defaults."""
    lines, group = [], None
    for name, item in config.FIELDS.items():
        if item.metadata["group"] != group:
            group = item.metadata["group"]
            lines.append(f"\n{group}:")
        shown = f"--[no]{name}" if config.kind_of(name)[0] is bool else f"--{name}"
        default = "" if item.default in (None, "", ()) or item.default is False else f" [{item.default}]"
        lines.append(f"  {shown}{default}\n      {item.metadata['help']}")
    return "\n".join(lines)


def flag_mistake(error: flags.Error, names: list[str]) -> str:
    """absl's message for a flag it could not take, in our words."""
    text = str(error)
    if isinstance(error, flags.UnrecognizedFlagError):
        return f"--{error.flagname}: no such flag{did_you_mean(error.flagname, names)}; see --help. Received: '--{error.flagname}'"
    if isinstance(error, flags.CantOpenFlagFileError):
        return f"--flagfile: cannot be opened: {text.rpartition('Errno')[2].partition('] ')[2]}"
    match = re.fullmatch(r"flag --(\w+)=(.*): (.*)", text, re.DOTALL)
    if not match:
        return text
    rule = f"must be true or false (--{match[1]} or --no{match[1]})" if "Non-boolean" in match[3] else match[3]
    return f"--{match[1]}: {rule}. Received: {match[2]!r}"
