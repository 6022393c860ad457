"""Loads Keras's files, `.keras` and `.h5`, always in Keras's safe mode. No other file of the library loads one."""

import importlib.util
import re
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras

from kerasft.settings.backbone_list import is_file
from kerasft.settings.errors import UserError

# What Keras raises of a file that it cannot load a model from.
REFUSALS = (ValueError, OSError, KeyError, IndexError, TypeError, UserWarning)


def load_model(path: str) -> keras.Model:
    """Loads a model without compiling it. Safe mode refuses layers that hold code, such as a Lambda.

    Args:
        path: what `--backbone` names.

    Raises:
        UserError: there is no such file, it is damaged, or Keras refuses it.
    """
    if not Path(path).is_file():
        raise UserError(f"--backbone: no such file. Received: {path!r}")
    _check_format(path, "--backbone")
    try:
        return read(path)
    except REFUSALS as error:
        reason = " ".join(str(error).split())[:200]
        hint = "a file of weights only belongs in --weights, with a constructor in --backbone"
        if unknown := re.search(r"Could not locate class '(\w+)'", str(error)):
            reason = f"nobody has registered the class {unknown[1]}"
            hint = (
                "name the package that registers the class in --allow_imports; for KerasHub pip install 'kerasft[hub]'"
            )
        raise UserError(
            f"--backbone: Keras cannot load a model from it ({reason}); {hint}. Received: {path!r}"
        ) from error


def register(packages: tuple[str, ...]) -> None:
    """Imports packages, so that the classes which they register can be loaded (`keras.saving.register_keras_serializable`).

    A package that is missing is reported by whatever needs it.

    Args:
        packages: what `--allow_imports` names.
    """
    for package in packages:
        if importlib.util.find_spec(package) is not None:
            importlib.import_module(package)


def read(path: str | Path) -> keras.Model:
    """A model, not compiled, in safe mode and with all its weights; raises one of `REFUSALS`."""
    with _missing_weights_raise():
        return keras.models.load_model(path, compile=False, safe_mode=True)


def read_weights(model: keras.Model, path: str | Path) -> None:
    """Loads weights into a model, all that it has; raises one of `REFUSALS`."""
    with _missing_weights_raise():
        model.load_weights(path)


def load_weights(model: keras.Model, path: str, name: str) -> None:
    """Loads weights into a model. All of its weights must be in the file.

    Args:
        model: a network without its classifier.
        path: what `--weights` names.
        name: of the network, for messages.

    Raises:
        UserError: the file is damaged, or does not fit.
    """
    if is_file(path):
        _check_format(path, "--weights")
    try:
        read_weights(model, path)
    except REFUSALS as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"--weights: the file does not fit {name} without its top ({reason}). Received: {path!r}"
        ) from error


def _check_format(path: str, flag: str) -> None:
    """Refuses a file whose content does not fit its suffix. Keras would say that a damaged file is not found."""
    import h5py

    zipped = path.endswith(".keras")
    if not (zipfile.is_zipfile(path) if zipped else h5py.is_hdf5(path)):
        form = "a Keras file (a zip archive)" if zipped else "an HDF5 file"
        raise UserError(f"{flag}: is not {form}; it is damaged, truncated or another format. Received: {path!r}")


@contextmanager
def _missing_weights_raise() -> Iterator[None]:
    """Turns Keras's warning into an error: a layer found no weights in a file and keeps its random ones."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="(?is).*(freshly|skipp|could not be loaded)")
        yield
