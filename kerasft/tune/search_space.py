"""The space of a search, as `--search` writes it: `lr=log(1e-5, 1e-2); optimizer=choice(adamw, sgd(momentum=0.9))`.

Each part names a hyperparameter and the distribution of its values.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from kerasft.settings import config as configs
from kerasft.settings import spec as specs
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError, did_you_mean, one_of
from kerasft.settings.fields import kind_of
from kerasft.settings.spec import Spec

RATES = ("lr", "epochs")  # of the last phase that has epochs; those before it keep their ratio to it
_PICTURES = ("data", "task", "splits", "val_fraction", "test_fraction", "bad_images", "seed")
_FLAG = "--search"


@dataclass(frozen=True)
class Dimension:
    """One searched setting.

    Attributes:
        name: `lr`, `epochs`, a field of Config, `field.argument` or `field.NAME.argument`.
        kind: `choice`, `uniform`, `log` or `int`.
        values: of a choice: literals, Specs or tuples of Specs.
        low, high, step: of the other kinds, both ends included.
        given: texts of the chosen `field` under which a `field.NAME.argument` counts; empty for always.
    """

    name: str
    kind: str
    values: tuple = ()
    low: float = 0.0
    high: float = 0.0
    step: int = 1
    given: tuple[str, ...] = ()

    @property
    def numeric(self) -> bool:
        """Whether its values are numbers, which have an order."""
        return self.kind != "choice" or all(map(_is_number, self.values))

    @property
    def options(self) -> tuple:
        """What a tuner chooses among: numbers of one type, or the values' texts."""
        if not self.numeric:
            return tuple(map(_text, self.values))
        whole = all(isinstance(value, int) for value in self.values)
        return self.values if whole else tuple(map(float, self.values))

    @property
    def ends(self) -> tuple:
        """What a check tries: all values of a choice, both ends of a range; as a tuner gives them."""
        return self.options if self.kind == "choice" else (self.low, self.high)

    def value(self, found: Any) -> Any:
        """The setting that a tuner's value stands for."""
        if self.kind == "choice":
            return self.values[self.options.index(found)]
        return int(found) if self.kind == "int" else float(found)


def _choice(*values: Any, name: str) -> Dimension:
    if not values:
        raise ValueError("needs at least one value")
    found = Dimension(name, "choice", values)
    if len(set(found.options)) < len(values):
        raise ValueError("has a value twice")
    return found


def _uniform(low: float, high: float, *, name: str) -> Dimension:
    return Dimension(name, "uniform", (), *map(float, _ordered(low, high)))


def _log(low: float, high: float, *, name: str) -> Dimension:
    low, high = _ordered(low, high)
    if low <= 0:
        raise ValueError("needs numbers above 0")
    return Dimension(name, "log", (), float(low), float(high))


def _int(low: int, high: int, step: int = 1, *, name: str) -> Dimension:
    low, high = _ordered(low, high)
    if not all(isinstance(value, int) and not isinstance(value, bool) for value in (low, high, step)) or step < 1:
        raise ValueError("needs whole numbers, and a step of at least 1")
    return Dimension(name, "int", (), low, low + (high - low) // step * step, step)


def _ordered(low: float, high: float) -> tuple[float, float]:
    if not (_is_number(low) and _is_number(high) and low < high):
        raise ValueError("needs two numbers, the lower one first")
    return low, high


_DISTRIBUTIONS = {"choice": _choice, "uniform": _uniform, "log": _log, "int": _int}


def parse(text: str, config: Config) -> tuple[Dimension, ...]:
    """The dimensions that `--search` names.

    Args:
        text: `name=distribution(...)`, parted by `;`.
        config: what is trained where nothing is searched.

    Raises:
        UserError: an unknown setting or distribution, or an argument of a Spec that is not there.
    """
    found: dict[str, Dimension] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        name, sign, expression = (piece.strip() for piece in part.partition("="))
        if not sign or not name.replace(".", "a").replace("_", "a").isalnum():
            raise UserError(f"{_FLAG}: must be name=distribution(...), parted by ;. Received: {part!r}")
        if name in found:
            raise UserError(f"{_FLAG}: names {name} twice. Received: {part!r}")
        _check_name(name)
        spec = specs.parse_one(expression, f"{_FLAG}, {name}")
        found[name] = specs.build(spec, f"{_FLAG}, {name}", _DISTRIBUTIONS, kind=Dimension, name=name)
    if not found:
        rule = "what to search is needed, such as 'lr=log(1e-5, 1e-2); head.dropout=uniform(0, 0.5)'"
        raise UserError(f"{_FLAG}: {rule}. Received: {text!r}")
    space = tuple(sorted(found.values(), key=lambda dimension: dimension.name.count(".")))  # what others lean on first
    space = tuple(_conditional(dimension, found) for dimension in space)
    for dimension in space:
        for values in probes(dimension, space):
            applied(config, space, values)
    return space


def _check_name(name: str) -> None:
    field, _, argument = name.partition(".")
    searchable = [key for key, item in configs.FIELDS.items() if item.metadata["group"] != "output"]
    if field in RATES and not argument:
        return
    if field in _PICTURES:
        rule = f"{field} says which pictures there are; scores on other ones could not be compared"
        raise UserError(f"{_FLAG}: {rule}. Received: '{name}'")
    if field not in searchable or field == "deterministic":
        names = [*RATES, *(key for key in searchable if key not in (*_PICTURES, "deterministic"))]
        raise UserError(f"{_FLAG}: must be one of {one_of(names)}{did_you_mean(field, names)}. Received: '{field}'")
    if argument and "spec" not in configs.FIELDS[field].metadata:
        raise UserError(f"{_FLAG}: {field} takes no arguments. Received: '{name}'")
    if name.count(".") > 2 or name.endswith(".") or ".." in name:
        raise UserError(f"{_FLAG}: must be field, field.argument or field.NAME.argument. Received: '{name}'")


def _conditional(dimension: Dimension, found: Mapping[str, Dimension]) -> Dimension:
    """A `field.NAME.argument` counts only under those choices of the field in which NAME occurs."""
    field, _, rest = dimension.name.partition(".")
    parent = found.get(field)
    if "." not in rest or parent is None:
        return dimension
    wanted = rest.partition(".")[0]
    given = [option for option, value in zip(parent.options, parent.values) if _holds(value, wanted)]
    if not given:
        rule = f"{wanted} is in none of the choices of {field}"
        raise UserError(f"{_FLAG}: {rule}. Received: '{dimension.name}'")
    return replace(dimension, given=() if len(given) == len(parent.options) else tuple(given))


def _holds(value: Any, name: str) -> bool:
    inner = value if isinstance(value, tuple) else (value,)
    return any(isinstance(item, Spec) and _same(item.name, name) for item in inner)


def probes(dimension: Dimension, space: Iterable[Dimension]) -> list[dict[str, Any]]:
    """Values to check a dimension with: its ends, for an argument under every choice of its field."""
    field = dimension.name.partition(".")[0]
    parent = next((other for other in space if other.name == field != dimension.name), None)
    if parent is None:
        return [{dimension.name: end} for end in dimension.ends]
    options = dimension.given or parent.ends
    return [{parent.name: option, dimension.name: end} for option in options for end in dimension.ends]


def declare(space: Iterable[Dimension], hp: Any) -> dict[str, Any]:
    """Registers the dimensions with a `keras_tuner.HyperParameters`; returns the values of those that count."""
    values = {}
    for one in space:
        scope = {"parent_name": one.name.partition(".")[0], "parent_values": list(one.given)} if one.given else {}
        if one.kind == "choice":
            values[one.name] = hp.Choice(one.name, list(one.options), **scope)
        elif one.kind == "int":
            values[one.name] = hp.Int(one.name, one.low, one.high, step=one.step, **scope)
        else:
            sampling = "log" if one.kind == "log" else "linear"
            values[one.name] = hp.Float(one.name, one.low, one.high, sampling=sampling, **scope)
    return {name: value for name, value in values.items() if value is not None}


def applied(config: Config, space: Iterable[Dimension], values: Mapping[str, Any]) -> Config:
    """A Config with the values of a trial, all but `RATES`, which need the phases (see `tune.rates`).

    Args:
        values: as a tuner gives them, by the dimension's name.

    Raises:
        UserError: a value that its field refuses.
    """
    for dimension in space:  # whole fields come before their arguments
        field, _, argument = dimension.name.partition(".")
        if dimension.name not in values or dimension.name in RATES:
            continue
        value = dimension.value(values[dimension.name])
        if argument:
            value = _with_argument(config, dimension.name, value)
        else:
            _, optional = kind_of(configs.HINTS[field])
            none = optional and isinstance(value, Spec) and value.name == "none"
            value = None if none else _text(value) if isinstance(value, (Spec, tuple)) else value
        try:
            config = replace(config, **{field: value})
        except UserError as error:
            first, *others = error.args
            raise UserError(f"{_FLAG}, {dimension.name}: {first}", *others) from None
    return config


def _with_argument(config: Config, name: str, value: Any) -> str:
    """The text of a field with one argument of one of its Specs set."""
    field, _, rest = name.partition(".")
    text = getattr(config, field)
    wanted, _, argument = rest.rpartition(".")
    found = config.specs(field)
    names = [spec.name for spec in found]
    if names == ["auto"] or not names:
        raise UserError(f"{_FLAG}: {name} needs --{field} to be named, not {text or 'none'}. Received: '{name}'")
    if not wanted and len(found) > 1:
        rule = f"--{field} names {', '.join(names)}: write {field}.NAME.{argument}"
        raise UserError(f"{_FLAG}: {rule}. Received: '{name}'")
    if wanted and not any(_same(spec, wanted) for spec in names):
        raise UserError(
            f"{_FLAG}: {wanted} is not in --{field}={text}{did_you_mean(wanted, names)}. Received: '{name}'"
        )
    changed = [
        Spec(spec.name, spec.args, {**spec.kwargs, argument: value}) if not wanted or _same(spec.name, wanted) else spec
        for spec in found
    ]
    return _text(tuple(changed))


def _text(value: Any) -> str:
    """A value as a user writes it."""
    if isinstance(value, tuple) and value and all(isinstance(item, Spec) for item in value):
        return " | ".join(map(str, value))
    return value if isinstance(value, str) else str(value) if isinstance(value, Spec) else repr(value)


def _same(one: str, other: str) -> bool:
    return one.replace("_", "").lower() == other.replace("_", "").lower()


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
