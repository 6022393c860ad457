"""The search space, as `--search` writes it: `lr=log(1e-5, 1e-2); optimizer=choice(adamw, sgd(momentum=0.9))`.

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

# Searched settings of the last phase that has epochs. The phases before it keep their ratio to it.
PHASE_SETTINGS = ("lr", "epochs")
# They cannot be searched. All trials share one list of the data, so that of --unlabelled too.
_DATA_FIELDS = (*configs.SPLITTING, "unlabelled")
# They change nothing in a trial: it ends before what they are for, or gives the same network. All trials would tie.
_WITHOUT_EFFECT = ("tta", "abstain", "coverage", "budget_minutes", "cache_gb", "deterministic")
_FLAG = "--search"


@dataclass(frozen=True)
class Dimension:
    """One searched setting.

    Attributes:
        name: `lr`, `epochs`, a field of Config, `field.argument` or `field.NAME.argument`.
        kind: `choice`, `uniform`, `log` or `int`.
        values: the options of a choice: literals, Specs or tuples of Specs.
        low, high, step: of the other kinds; `low` and `high` are included.
        parent_options: a `field.NAME.argument` is active only under these options of `field`; empty for always.
    """

    name: str
    kind: str
    values: tuple = ()
    low: float = 0.0
    high: float = 0.0
    step: int = 1
    parent_options: tuple[str, ...] = ()

    @property
    def numeric(self) -> bool:
        """Whether its values are numbers."""
        return self.kind != "choice" or all(map(_is_number, self.values))

    @property
    def options(self) -> tuple:
        """What KerasTuner chooses among: numbers of one type, or the texts of the values."""
        if not self.numeric:
            return tuple(map(_to_text, self.values))
        whole = all(isinstance(value, int) for value in self.values)
        return self.values if whole else tuple(map(float, self.values))

    @property
    def boundaries(self) -> tuple:
        """All options of a choice, or both ends of a range, as KerasTuner gives them."""
        return self.options if self.kind == "choice" else (self.low, self.high)

    def value(self, option: Any) -> Any:
        """Returns the value of the setting for an option that KerasTuner has chosen."""
        if self.kind == "choice":
            return self.values[self.options.index(option)]
        return int(option) if self.kind == "int" else float(option)


def _choice(*values: Any, name: str) -> Dimension:
    if not values:
        raise ValueError("needs at least one value")
    dimension = Dimension(name, "choice", values)
    if len(set(dimension.options)) < len(values):
        raise ValueError("has a value twice")
    return dimension


def _uniform(low: float, high: float, *, name: str) -> Dimension:
    return Dimension(name, "uniform", (), *map(float, _check_order(low, high)))


def _log(low: float, high: float, *, name: str) -> Dimension:
    low, high = _check_order(low, high)
    if low <= 0:
        raise ValueError("needs numbers above 0")
    return Dimension(name, "log", (), float(low), float(high))


def _int(low: int, high: int, step: int = 1, *, name: str) -> Dimension:
    low, high = _check_order(low, high)
    if not all(isinstance(value, int) and not isinstance(value, bool) for value in (low, high, step)) or step < 1:
        raise ValueError("needs whole numbers, and a step of at least 1")
    return Dimension(name, "int", (), low, low + (high - low) // step * step, step)


def _check_order(low: float, high: float) -> tuple[float, float]:
    if not (_is_number(low) and _is_number(high) and low < high):
        raise ValueError("needs two numbers, the lower one first")
    return low, high


_DISTRIBUTIONS = {"choice": _choice, "uniform": _uniform, "log": _log, "int": _int}


def parse(text: str, config: Config) -> tuple[Dimension, ...]:
    """Parses `--search` into dimensions. Whole fields come before their arguments.

    Args:
        text: `name=distribution(...)`, separated by `;`.
        config: the settings that are not searched.

    Raises:
        UserError: an unknown setting or distribution, or an argument of a Spec that `config` does not have.
    """
    dimensions: dict[str, Dimension] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        name, sign, expression = (piece.strip() for piece in part.partition("="))
        if not sign or not name.replace(".", "a").replace("_", "a").isalnum():
            raise UserError(f"{_FLAG}: must be name=distribution(...), separated by ;. Received: {part!r}")
        if name in dimensions:
            raise UserError(f"{_FLAG}: names {name} twice. Received: {part!r}")
        _check_name(name)
        spec = specs.parse_one(expression, f"{_FLAG}, {name}")
        dimensions[name] = specs.build(spec, f"{_FLAG}, {name}", _DISTRIBUTIONS, kind=Dimension, name=name)
        if name in PHASE_SETTINGS:
            _check_numbers(dimensions[name], expression)
    if not dimensions:
        rule = "needs at least one setting, such as 'lr=log(1e-5, 1e-2); head.dropout=uniform(0, 0.5)'"
        raise UserError(f"{_FLAG}: {rule}. Received: {text!r}")
    phases = dimensions["phases"].values if "phases" in dimensions else (config.specs("phases"),)
    if "lr_scaling" in dimensions and not any(_contains_name(value, "auto") for value in phases):
        rule = "lr_scaling is of the rates that auto chooses, and no trial has auto in its --phases"
        raise UserError(f"{_FLAG}: {rule}. Received: 'lr_scaling'")
    # A field comes before its arguments, which depend on it.
    ordered = sorted(dimensions.values(), key=lambda dimension: dimension.name.count("."))
    space = tuple(_add_condition(dimension, dimensions) for dimension in ordered)
    for dimension in space:
        for values in boundary_values(dimension, space):
            apply_values(config, space, values)
    return space


def _check_name(name: str) -> None:
    field, _, argument = name.partition(".")
    searchable = [key for key, item in configs.FIELDS.items() if item.metadata["group"] != "output"]
    if field in PHASE_SETTINGS and not argument:
        return
    if field in _DATA_FIELDS:
        rule = f"{field} chooses the images; scores on different images cannot be compared"
        raise UserError(f"{_FLAG}: {rule}. Received: '{name}'")
    if field in _WITHOUT_EFFECT:
        advice = "; --tta=auto chooses it after the training of the winner" if field == "tta" else ""
        raise UserError(
            f"{_FLAG}: {field} changes no trial, so trials cannot be ranked by it{advice}. Received: '{name}'"
        )
    if field not in searchable:
        names = [*PHASE_SETTINGS, *(key for key in searchable if key not in (*_DATA_FIELDS, *_WITHOUT_EFFECT))]
        raise UserError(f"{_FLAG}: must be one of {one_of(names)}{did_you_mean(field, names)}. Received: '{field}'")
    if argument and "spec" not in configs.FIELDS[field].metadata:
        raise UserError(f"{_FLAG}: {field} takes no arguments. Received: '{name}'")
    if name.count(".") > 2 or name.endswith(".") or ".." in name:
        raise UserError(f"{_FLAG}: must be field, field.argument or field.NAME.argument. Received: '{name}'")


def _check_numbers(dimension: Dimension, expression: str) -> None:
    """Raises UserError unless the values of `lr` are numbers, and those of `epochs` whole numbers of at least 1."""
    if not dimension.numeric:
        raise UserError(f"{_FLAG}, {dimension.name}: must be numbers. Received: {expression!r}")
    whole = dimension.kind == "int" or all(isinstance(value, int) for value in dimension.values)
    if dimension.name == "epochs" and not (
        whole and dimension.kind in ("choice", "int") and min(dimension.boundaries) >= 1
    ):
        rule = "must be whole numbers of at least 1, as choice(2, 4) or int(1, 9)"
        raise UserError(f"{_FLAG}, epochs: {rule}. Received: {expression!r}")


def _add_condition(dimension: Dimension, dimensions: Mapping[str, Dimension]) -> Dimension:
    """Makes a `field.NAME.argument` active only under those choices of the field that contain NAME."""
    field, _, rest = dimension.name.partition(".")
    parent = dimensions.get(field)
    if "." not in rest or parent is None:
        return dimension
    wanted = rest.partition(".")[0]
    parent_options = [option for option, value in zip(parent.options, parent.values) if _contains_name(value, wanted)]
    if not parent_options:
        rule = f"{wanted} is in none of the choices of {field}"
        raise UserError(f"{_FLAG}: {rule}. Received: '{dimension.name}'")
    return replace(
        dimension, parent_options=() if len(parent_options) == len(parent.options) else tuple(parent_options)
    )


def _contains_name(value: Any, name: str) -> bool:
    inner = value if isinstance(value, tuple) else (value,)
    return any(isinstance(item, Spec) and _same_name(item.name, name) for item in inner)


def boundary_values(dimension: Dimension, space: Iterable[Dimension]) -> list[dict[str, Any]]:
    """Returns the values to check a dimension with: its boundaries, for an argument under each choice of its field."""
    field = dimension.name.partition(".")[0]
    parent = next((other for other in space if other.name == field != dimension.name), None)
    if parent is None:
        return [{dimension.name: end} for end in dimension.boundaries]
    options = dimension.parent_options or parent.boundaries
    return [{parent.name: option, dimension.name: end} for option in options for end in dimension.boundaries]


def declare(space: Iterable[Dimension], hp: Any) -> dict[str, Any]:
    """Registers the dimensions with a `keras_tuner.HyperParameters`. Returns the values of the active ones."""
    values = {}
    for dimension in space:
        name, scope = dimension.name, {}
        if dimension.parent_options:
            scope = {"parent_name": name.partition(".")[0], "parent_values": list(dimension.parent_options)}
        if dimension.kind == "choice":
            values[name] = hp.Choice(name, list(dimension.options), **scope)
        elif dimension.kind == "int":
            values[name] = hp.Int(name, dimension.low, dimension.high, step=dimension.step, **scope)
        else:
            sampling = "log" if dimension.kind == "log" else "linear"
            values[name] = hp.Float(name, dimension.low, dimension.high, sampling=sampling, **scope)
    return {name: value for name, value in values.items() if value is not None}


def apply_values(config: Config, space: Iterable[Dimension], values: Mapping[str, Any]) -> Config:
    """Returns the Config of a trial, without its `PHASE_SETTINGS`: `phase_settings.set_lr_and_epochs` adds them.

    Args:
        space: as `parse` returns it.
        values: as KerasTuner gives them, by the dimension's name.

    Raises:
        UserError: a field does not accept its value.
    """
    for dimension in space:
        field, _, argument = dimension.name.partition(".")
        if dimension.name not in values or dimension.name in PHASE_SETTINGS:
            continue
        value = dimension.value(values[dimension.name])
        if argument:
            value = _with_argument(config, dimension.name, value)
        else:
            kind, optional = kind_of(configs.HINTS[field])
            none = optional and isinstance(value, Spec) and value.name == "none"
            # A number may be a text of its field: --features=2.
            value = None if none else _to_text(value) if kind is str or isinstance(value, (Spec, tuple)) else value
        try:
            config = replace(config, **{field: value})
        except UserError as error:
            first, *others = error.args
            raise UserError(f"{_FLAG}, {dimension.name}: {first}", *others) from None
    return config


def _with_argument(config: Config, name: str, value: Any) -> str:
    """Returns the text of a field with one argument of one of its Specs replaced."""
    field, _, rest = name.partition(".")
    text = getattr(config, field)
    wanted, _, argument = rest.rpartition(".")
    field_specs = config.specs(field)
    names = [spec.name for spec in field_specs]
    if names == ["auto"] or not names:
        raise UserError(f"{_FLAG}: {name} needs --{field} to be named, not {text or 'none'}. Received: '{name}'")
    if not wanted and len(field_specs) > 1:
        rule = f"--{field} names {', '.join(names)}: write {field}.NAME.{argument}"
        raise UserError(f"{_FLAG}: {rule}. Received: '{name}'")
    if wanted and not any(_same_name(spec, wanted) for spec in names):
        raise UserError(
            f"{_FLAG}: {wanted} is not in --{field}={text}{did_you_mean(wanted, names)}. Received: '{name}'"
        )
    changed = [
        Spec(spec.name, spec.args, {**spec.kwargs, argument: value})
        if not wanted or _same_name(spec.name, wanted)
        else spec
        for spec in field_specs
    ]
    return _to_text(tuple(changed))


def _to_text(value: Any) -> str:
    """Returns a value as a user writes it."""
    if isinstance(value, tuple) and value and all(isinstance(item, Spec) for item in value):
        return " | ".join(map(str, value))
    return value if isinstance(value, str) else str(value) if isinstance(value, Spec) else repr(value)


def _same_name(one: str, other: str) -> bool:
    return one.replace("_", "").lower() == other.replace("_", "").lower()


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
