"""Fields of the Config: each has a help text and rules, and its values are checked by these."""

import typing
from collections.abc import Container
from dataclasses import Field, field
from typing import Any

from kerasft.settings import backbone_list
from kerasft.settings import spec as specs
from kerasft.settings.errors import UserError, did_you_mean
from kerasft.settings.spec import Spec

# Types of values in words, for messages.
KINDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def flag(default: Any, group: str, text: str, **rules: Any) -> Any:
    """A field with its help text.

    Args:
        group: heading of the help under which the flag stands.
        rules: `choices`; `low` and `high`, inclusive; `spec`, which is `one`, `many` or `backbones`.
    """
    return field(default=default, metadata={"group": group, "help": text, **rules})


def check(item: Field, hint: Any, value: Any) -> Any:
    """Returns the value of a field in its type.

    Args:
        item: the field, made by `flag`.
        hint: its type hint.

    Raises:
        UserError: a value of the wrong type or out of its range. It names the flag and its rule.
    """
    name, rules = item.name, item.metadata
    kind, optional = kind_of(hint)
    if value is None and optional:
        return None
    if isinstance(value, list):
        value = tuple(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise UserError(f"--{name}: must be {KINDS.get(kind, 'a list of names')}. Received: {value!r}")
    if "choices" in rules and value not in rules["choices"]:
        rule = f"must be one of {', '.join(rules['choices'])}{did_you_mean(value, rules['choices'])}"
        raise UserError(f"--{name}: {rule}. Received: {value!r}")
    if "low" in rules and not rules["low"] <= value <= rules["high"]:
        raise UserError(f"--{name}: must be in [{rules['low']}, {rules['high']}]. Received: {value!r}")
    return value


def parse(item: Field, text: str, allowed: Container[str]) -> tuple[Spec, ...]:
    """The Specs of a field.

    Args:
        item: the field, with the rule `spec`.
        text: its value.
        allowed: packages that `--allow_imports` names.

    Raises:
        UserError: one cannot be read, or has a dotted name whose package is not allowed.
    """
    found = _PARSERS[item.metadata["spec"]](text, f"--{item.name}")
    for spec in found:
        for path in specs.dotted_names(spec):
            package = path.partition(".")[0]
            if package not in allowed:
                rule = f"{path} is code from outside; allow it with --allow_imports={package} on the command line"
                raise UserError(f"--{item.name}: {rule}. Received: '{spec}'")
    return found


# How the text of a field becomes Specs, by its rule `spec`.
_PARSERS = {
    "many": specs.parse,
    "one": lambda text, flag: (specs.parse_one(text, flag),),
    "backbones": lambda text, _: backbone_list.parse_specs(text),
}


def kind_of(hint: Any) -> tuple[type, bool]:
    """The Python type of a type hint, and whether it may be None."""
    options = typing.get_args(hint) if not isinstance(hint, type) and typing.get_origin(hint) is not tuple else ()
    if type(None) in options:
        return options[0], True
    return (typing.get_origin(hint) or hint), False
