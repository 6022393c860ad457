"""Specs: named choices with arguments, written as Python expressions and never executed.

`flip | rotate(15)` is two Specs; `all(epochs=5, optimizer=sgd(momentum=0.9))` is one with another
as an argument. A Spec is resolved against our own functions first, then against Keras's names. Code from outside is
imported only where a caller says which kind of class it takes, and only a class or function of that kind is ever called.
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


@dataclass(frozen=True)
class Spec:
    """A name with positional and keyword arguments; arguments are literals, Specs or tuples of Specs."""

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
        text: the expression; the empty string and `none` give no Specs.
        flag: the flag it came from, for messages, such as `--augment`.

    Raises:
        UserError: with the place, when the text holds anything but names, calls, `|` and literals.
    """
    if text.strip().lower() in ("", "none"):
        return ()
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError) as error:
        column = getattr(error, "offset", None) or 1
        raise _place(flag, text.strip(), column - 1, getattr(error, "msg", str(error))) from None
    except (RecursionError, MemoryError):
        raise UserError(f"{flag}: nested too deeply to be read. Received: {text!r}") from None
    return _specs(tree.body, flag, text.strip())


def parse_one(text: str, flag: str) -> Spec:
    """Parses a text that must hold exactly one Spec; raises UserError otherwise."""
    specs = parse(text, flag)
    if len(specs) != 1:
        raise UserError(f"{flag}: must be one name or call, not {len(specs)}. Received: {text!r}")
    return specs[0]


def _place(flag: str, text: str, column: int, rule: str) -> UserError:
    """The error for a mistake at one column of a text: the part of the text around the column, and a mark below it."""
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
                raise _place(flag, text, keyword.col_offset, "arguments are name=value, each once")
            kwargs[keyword.arg] = _argument(keyword.value, flag, text)
        args = tuple(_argument(arg, flag, text) for arg in node.args)
        return (Spec(_name(node.func, flag, text), args, kwargs),)
    return (Spec(_name(node, flag, text)),)


def _name(node: ast.expr, flag: str, text: str) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_name(node.value, flag, text)}.{node.attr}"
    raise _place(flag, text, node.col_offset, "a name or a call such as flip or rotate(15) is needed")


def _argument(node: ast.expr, flag: str, text: str) -> Any:
    if isinstance(node, ast.BinOp):
        return _specs(node, flag, text)
    if isinstance(node, (ast.Name, ast.Attribute, ast.Call)):
        return _specs(node, flag, text)[0]
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        value = {}
    if not _plain(value):
        rule = "an argument must be a number, text, True, False, None, a tuple, a list or again a name or call"
        raise _place(flag, text, node.col_offset, rule)
    return value


def _plain(value: Any) -> bool:
    """Whether a literal holds no dict: Keras would take one for the description of any object, and import its module."""
    if isinstance(value, (tuple, list)):
        return all(map(_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))


def choices(module: ModuleType, kind: type | None = None) -> dict[str, Callable]:
    """The names of a module that a Spec may use: its `__all__`, or its public subclasses of `kind`."""
    if kind is None:
        return {name: getattr(module, name) for name in module.__all__}
    public = {
        name: value for name, value in vars(module).items() if not name.startswith("_") and inspect.isclass(value)
    }
    return {name: value for name, value in public.items() if issubclass(value, kind) and value is not kind}


def resolve(
    spec: Spec, flag: str, *namespaces: Mapping[str, Callable], outside: type | tuple[type, ...] = ()
) -> Callable:
    """The callable that a Spec names, first namespace first; case and underscores do not matter.

    Args:
        spec: its name is looked up.
        flag: for messages.
        namespaces: the choices.
        outside: classes whose subclasses a dotted name may bring, and functions that are annotated to return one. The
            name is imported; `Config` has already refused those that `--allow_imports` does not name. By default
            nothing is imported.

    Raises:
        UserError: with the nearest name and the list of choices.
    """
    if "." in spec.name and outside:
        return _imported(spec.name, flag, outside)
    for namespace in namespaces:
        if spec.name in namespace:
            return namespace[spec.name]
    for namespace in namespaces:
        for name, value in namespace.items():
            if _key(name) == _key(spec.name):
                return value
    names = [name for namespace in namespaces for name in namespace]
    raise UserError(f"{flag}: must be one of {one_of(names)}{did_you_mean(spec.name, names)}. Received: '{spec.name}'")


def _key(name: str) -> str:
    return name.replace("_", "").lower()


def _imported(path: str, flag: str, kind: type | tuple[type, ...]) -> Callable:
    module, _, name = path.rpartition(".")
    try:
        value = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{flag}: cannot import {path}: {error}. Received: '{path}'") from None
    if not _gives(value, kind):
        names = " or ".join(one.__name__ for one in (kind if isinstance(kind, tuple) else (kind,)))
        rule = f"{path} must be a subclass of {names}, or a function whose return annotation is one"
        raise UserError(f"{flag}: {rule}. Received: {type(value).__name__}")
    return value


def _gives(value: Any, kind: type | tuple[type, ...]) -> bool:
    """Whether a value is a subclass of a kind, or a Python function that is annotated to return one."""
    if inspect.isclass(value):
        return issubclass(value, kind)
    if not inspect.isfunction(value):
        return False
    try:
        hint = typing.get_type_hints(value).get("return")
    except Exception:  # noqa: BLE001 - an annotation may be any expression, and name what is not there
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
    **given: Any,
) -> Any:
    """Resolves a Spec and calls it with its own arguments and `given` (which a Spec may not name itself).

    Args:
        kind: the type that the result must have.
        outside: as in `resolve`.
        reserved: arguments that a Spec may not name either.

    Raises:
        UserError: for an unknown name, an argument the callable does not take or refuses, or a result of
            another kind.
    """
    function = resolve(spec, flag, *namespaces, outside=outside)
    try:
        signature = inspect.signature(function)
    except ValueError:  # of some classes that are written in C
        raise UserError(f"{flag}: {spec.name} does not say which arguments it takes. Received: '{spec}'") from None
    named = [p.name for p in signature.parameters.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    free = [name for name in named if name not in given and name not in reserved and name != "kwargs"]
    for name in spec.kwargs:
        if name not in free:
            rule = f"takes {', '.join(free)}" if free else "takes no arguments"
            raise UserError(f"{flag}: {spec.name}() {rule}{did_you_mean(name, free)}. Received: '{name}='")
    try:
        signature.bind(*spec.args, **spec.kwargs, **given)
        result = function(*spec.args, **spec.kwargs, **given)
    except (TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{flag}: {spec.name}() {reason.rstrip('.')}. Received: '{spec}'") from error
    if not isinstance(result, kind):
        raise UserError(f"{flag}: {spec.name} must give a {kind.__name__}. Received: {type(result).__name__}")
    return result


def dotted(spec: Spec) -> list[str]:
    """The dotted names in a Spec and in its arguments: code from outside of kerasft and Keras."""
    names = [spec.name] if "." in spec.name else []
    for value in (*spec.args, *spec.kwargs.values()):
        for inner in value if isinstance(value, tuple) else (value,):
            names += dotted(inner) if isinstance(inner, Spec) else []
    return names
