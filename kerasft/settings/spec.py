"""Specs: named choices with arguments, written as Python expressions and never executed.

`flip | rotate(15)` is two Specs. `all(epochs=5, optimizer=sgd(momentum=0.9))` is one Spec with another as an argument. A
name is looked up among kerasft's functions first, then among those of Keras. A dotted name is imported only if the caller
says which classes it accepts. Only such a class, or a function that returns one, is ever called.
"""

import ast
import importlib
import inspect
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from kerasft.settings.errors import MAX_RECEIVED_CHARACTERS, UserError, did_you_mean, one_of, printable

# What is said of commas, where a flag has a separator of its own.
_SEPARATORS = {"--strategies": "entries are separated by ;, and the phases of one by |, not by commas"}


@dataclass(frozen=True)
class Spec:
    """A name with positional and keyword arguments. Arguments are literals, Specs or tuples of Specs."""

    name: str
    args: tuple = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = [_text(value) for value in self.args]
        parts += [f"{key}={_text(value)}" for key, value in self.kwargs.items()]
        return f"{self.name}({', '.join(parts)})" if parts else self.name


def _text(value: Any) -> str:
    if isinstance(value, tuple) and value and all(isinstance(item, Spec) for item in value):
        return " | ".join(map(str, value))
    return str(value) if isinstance(value, Spec) else repr(value)


def parse(text: str, flag: str) -> tuple[Spec, ...]:
    """Parses `a | b(1, c=d)` into Specs.

    Args:
        text: the expression. The empty string and `none` give no Specs.
        flag: the flag that the text comes from, for messages, such as `--augment`.

    Raises:
        UserError: the text has something else than names, calls, `|` and literals. The message shows where.
    """
    if text.strip().lower() in ("", "none"):
        return ()
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError) as error:
        column = getattr(error, "offset", None) or 1
        raise _syntax_error(flag, text.strip(), column - 1, getattr(error, "msg", str(error))) from None
    except (RecursionError, MemoryError):
        raise UserError(f"{flag}: nested too deeply to be read. Received: {text!r}") from None
    return _specs(tree.body, flag, text.strip())


def parse_one(text: str, flag: str) -> Spec:
    """Parses a text that must be exactly one Spec. Raises UserError otherwise."""
    specs = parse(text, flag)
    if len(specs) != 1:
        raise UserError(f"{flag}: must be one name or call, not {len(specs)}. Received: {text!r}")
    return specs[0]


def _syntax_error(flag: str, text: str, column: int, rule: str) -> UserError:
    """Returns the error for a mistake at one column. It shows the text around the column, with a mark below it."""
    start = max(0, column - MAX_RECEIVED_CHARACTERS // 2)
    part, before = text[start : start + MAX_RECEIVED_CHARACTERS], len(printable(text[start:column]))
    return UserError(f"{flag}: {rule}, here:", f"  {printable(part)}", f"  {' ' * before}^", f"Received: {text!r}")


def _specs(node: ast.expr, flag: str, text: str) -> tuple[Spec, ...]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _specs(node.left, flag, text) + _specs(node.right, flag, text)
    if isinstance(node, ast.Call):
        kwargs = {}
        for keyword in node.keywords:
            if keyword.arg is None or keyword.arg in kwargs:
                raise _syntax_error(flag, text, keyword.col_offset, "arguments are name=value, each once")
            kwargs[keyword.arg] = _argument(keyword.value, flag, text)
        args = tuple(_argument(arg, flag, text) for arg in node.args)
        return (Spec(_name(node.func, flag, text), args, kwargs),)
    return (Spec(_name(node, flag, text)),)


def _name(node: ast.expr, flag: str, text: str) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_name(node.value, flag, text)}.{node.attr}"
    rule = "a name or a call such as name(argument=1) is needed"
    if isinstance(node, ast.Tuple):
        rule = _SEPARATORS.get(flag, "several are separated by |, not by commas")
    raise _syntax_error(flag, text, node.col_offset, rule)


def _argument(node: ast.expr, flag: str, text: str) -> Any:
    if isinstance(node, ast.BinOp):
        return _specs(node, flag, text)
    if isinstance(node, (ast.Name, ast.Attribute, ast.Call)):
        return _specs(node, flag, text)[0]
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        value = {}
    if not _is_plain(value):
        rule = "an argument must be a number, text, True, False, None, a tuple, a list, a name or a call"
        raise _syntax_error(flag, text, node.col_offset, rule)
    return value


def _is_plain(value: Any) -> bool:
    """Whether a literal has no dict. Keras would deserialize a dict to any object, and import its module."""
    if isinstance(value, (tuple, list)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))


def choices(module: ModuleType, kind: type | None = None) -> dict[str, Callable]:
    """Returns what a Spec may name in a module: its `__all__`, or its public subclasses of `kind`."""
    if kind is None:
        return {name: getattr(module, name) for name in module.__all__}
    public = {
        name: value for name, value in vars(module).items() if not name.startswith("_") and inspect.isclass(value)
    }
    return {name: value for name, value in public.items() if issubclass(value, kind) and value is not kind}


def resolve(
    spec: Spec, flag: str, *namespaces: Mapping[str, Callable], outside: type | tuple[type, ...] = ()
) -> Callable:
    """Returns the callable that a Spec names. The first namespace wins, whatever the case.

    Case and underscores do not matter, but in one namespace the exact name comes first.

    Args:
        spec: the Spec whose name is looked up.
        flag: for messages.
        namespaces: the choices, by name.
        outside: classes. A dotted name may be a subclass of one, or a function that is annotated to return one. It is
            imported here; `Config` has already refused modules that `--allow_imports` does not name. By default nothing
            is imported.

    Raises:
        UserError: no choice has this name. The message gives the nearest one and the list.
    """
    if "." in spec.name and outside:
        return _import_callable(spec.name, flag, outside)
    for namespace in namespaces:
        if spec.name in namespace:
            return namespace[spec.name]
        for name, value in namespace.items():
            if _key(name) == _key(spec.name):
                return value
    names = [name for namespace in namespaces for name in namespace]
    rule = f"must be one of {one_of(names)}{did_you_mean(spec.name, names)}"
    # No `outside`: this flag takes no code of the user.
    rule += "; dotted names, which are code of your own, are not taken here" * ("." in spec.name)
    raise UserError(f"{flag}: {rule}. Received: '{spec.name}'")


def _key(name: str) -> str:
    return name.replace("_", "").lower()


def _import_callable(path: str, flag: str, kind: type | tuple[type, ...]) -> Callable:
    module, _, name = path.rpartition(".")
    try:
        value = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{flag}: cannot import {path}: {error}. Received: '{path}'") from None
    if not _returns_kind(value, kind):
        names = " or ".join(one.__name__ for one in (kind if isinstance(kind, tuple) else (kind,)))
        rule = f"{path} must be a subclass of {names}, or a function whose return annotation is one"
        raise UserError(f"{flag}: {rule}. Received: {type(value).__name__}")
    return value


def _returns_kind(value: Any, kind: type | tuple[type, ...]) -> bool:
    """Whether a value is a subclass of a kind, or a Python function that is annotated to return one."""
    if inspect.isclass(value):
        return issubclass(value, kind)
    if not inspect.isfunction(value):
        return False
    try:
        hint = typing.get_type_hints(value).get("return")
    # An annotation may be any expression, and may use names that do not exist.
    except Exception:  # noqa: BLE001
        return False
    hints = typing.get_args(hint) or (hint,)
    return all(isinstance(one, type) and issubclass(one, kind) for one in hints)


def build(
    spec: Spec,
    flag: str,
    *namespaces: Mapping[str, Callable],
    kind: type = object,
    outside: type | tuple[type, ...] = (),
    reserved: Iterable[str] = (),
    **fixed: Any,
) -> Any:
    """Resolves a Spec, and calls it with its own arguments and those of `fixed`, which the Spec may not name.

    Args:
        kind: the type that the result must have.
        outside: as in `resolve`.
        reserved: other arguments that the Spec may not name.

    Raises:
        UserError: the name is unknown, the callable does not accept an argument, or the result has another type.
    """
    function = resolve(spec, flag, *namespaces, outside=outside)
    try:
        signature = inspect.signature(function)
    # Some classes that are written in C have no signature.
    except ValueError:
        raise UserError(f"{flag}: {spec.name} does not say which arguments it takes. Received: '{spec}'") from None
    named = [p.name for p in signature.parameters.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    free = [name for name in named if name not in fixed and name not in reserved and name != "kwargs"]
    for name in spec.kwargs:
        if name not in free:
            rule = f"takes {', '.join(free)}" if free else "takes no arguments"
            raise UserError(f"{flag}: {spec.name}() {rule}{did_you_mean(name, free)}. Received: '{name}='")
    try:
        signature.bind(*spec.args, **spec.kwargs, **fixed)
        result = function(*spec.args, **spec.kwargs, **fixed)
    except (TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{flag}: {spec.name}() {reason.rstrip('.')}. Received: '{spec}'") from error
    if not isinstance(result, kind):
        raise UserError(f"{flag}: {spec.name} must give a {kind.__name__}. Received: {type(result).__name__}")
    return result


def dotted_names(spec: Spec) -> list[str]:
    """Returns the dotted names in a Spec and in its arguments. They name code outside of kerasft and Keras."""
    names = [spec.name] if "." in spec.name else []
    for value in (*spec.args, *spec.kwargs.values()):
        for inner in value if isinstance(value, tuple) else (value,):
            names += dotted_names(inner) if isinstance(inner, Spec) else []
    return names
