"""The user's own code in cache keys: a layer or an augmentation computes something else once its source is edited.

kerasft, Keras and TensorFlow stand in the keys by their versions; a class or function from elsewhere by its source file.
"""

import functools
import hashlib
import inspect
import secrets
import sys
from collections.abc import Iterable
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

import keras

from kerasft.settings import spec as specs
from kerasft.settings.spec import Spec

# Packages whose code is not read, for their versions are in the keys. Python's own is not read either.
_VERSIONED = ("keras", "keras_hub", "kerasft", "tensorflow")
# Stands for code without a file, such as that of a notebook: it is known in this process only.
_PROCESS = secrets.token_hex(16)


def digests(objects: Iterable[Any]) -> list[str]:
    """The SHA-256 of the source files of classes and functions from elsewhere, sorted; empty where all is versioned code.

    Only the files that define them count, not what these import.

    Args:
        objects: functions, classes with their base classes, and layers with the layers and functions that they hold.
    """
    return sorted(_digest(sys.modules[name]) for name in modules(objects) if name in sys.modules)


def modules(objects: Iterable[Any]) -> set[str]:
    """Names of the modules from elsewhere that define objects; arguments as `digests`."""
    return {name for one in objects for name in _modules(one)}


def find_file(module: str) -> Path | None:
    """The source file of a module; None where there is none. A module that is not imported yet stays so."""
    if module in sys.modules:
        file = getattr(sys.modules[module], "__file__", None)
        return file and Path(file)
    path, found, parts = None, None, module.split(".")
    for end in range(1, len(parts) + 1):
        found = PathFinder.find_spec(".".join(parts[:end]), path)
        if found is None:
            return None
        path = found.submodule_search_locations
    return Path(found.origin) if found.has_location else None


def named(recipe: str) -> list[Any]:
    """The classes and functions that the dotted names of a recipe stand for, such as `mine.Blur(3)`, once they are imported."""
    return named_in(specs.parse(recipe, "--augment"))


def named_in(found: Iterable[Spec]) -> list[Any]:
    """What `named` returns, of Specs."""
    paths = [path for spec in found for path in specs.dotted_names(spec)]
    places = [path.rpartition(".") for path in paths]
    return [getattr(sys.modules.get(module), name, None) for module, _, name in places]


def _modules(one: Any) -> set[str]:
    """Names of the modules from elsewhere that define an object."""
    if isinstance(one, keras.layers.Layer):
        layers = one._flatten_layers()
        held = [value for layer in layers for value in vars(layer).values() if inspect.isfunction(value)]
        parts = [*(type(layer) for layer in layers), *held]
    else:
        parts = [one if inspect.isclass(one) or inspect.isfunction(one) else type(one)]
    kinds = [kind for part in parts for kind in (part.__mro__ if inspect.isclass(part) else (part,))]
    return {kind.__module__ for kind in kinds if _is_from_elsewhere(kind.__module__)}


def _is_from_elsewhere(module: str) -> bool:
    package = module.partition(".")[0]
    return package not in _VERSIONED and package not in sys.stdlib_module_names


# Read once: a file that is edited during a run does not change what has been imported.
@functools.cache
def _digest(module: ModuleType) -> str:
    try:
        return hashlib.sha256(Path(module.__file__).read_bytes()).hexdigest()
    except (AttributeError, TypeError, OSError):
        return f"{module.__name__} {_PROCESS}"
