"""Keras's own files, `.keras` and `.h5`: the only place where one is loaded, always in Keras's safe mode."""

import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras

from kerasft.settings.config import is_file
from kerasft.settings.errors import UserError

# What Keras raises of a file that it cannot load a model from.
REFUSALS = (ValueError, OSError, KeyError, TypeError, UserWarning)


def load_model(path: str) -> keras.Model:
    """A model, not compiled. Safe mode refuses layers that hold code, such as a Lambda.

    Args:
        path: what `--backbone` names.

    Raises:
        UserError: there is no such file, it is damaged, or Keras refuses it.
    """
    if not Path(path).is_file():
        raise UserError(f"--backbone: no such file. Received: {path!r}")
    _check_whole(path, "--backbone")
    try:
        return read(path)
    except REFUSALS as error:
        reason = " ".join(str(error).split())[:200]
        hint = "a file of weights alone goes into --weights, beside a constructor in --backbone"
        raise UserError(
            f"--backbone: Keras cannot load a model from it ({reason}); {hint}. Received: {path!r}"
        ) from error


def read(path: str | Path) -> keras.Model:
    """A model, not compiled, in safe mode and with all its weights; raises one of `REFUSALS`."""
    with _nothing_left_out():
        return keras.models.load_model(path, compile=False, safe_mode=True)


def load_weights(model: keras.Model, path: str, name: str) -> None:
    """Gives a model the weights of a file, all of them.

    Args:
        model: without its top.
        path: what `--weights` names.
        name: of the network, for messages.

    Raises:
        UserError: the file is damaged, or does not fit.
    """
    if is_file(path):
        _check_whole(path, "--weights")
    try:
        with _nothing_left_out():
            model.load_weights(path)
    except (ValueError, OSError, KeyError, IndexError, UserWarning) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"--weights: the file does not fit {name} without its top ({reason}). Received: {path!r}"
        ) from error


def _check_whole(path: str, flag: str) -> None:
    """Refuses a file that does not hold what its name says: Keras calls one that is damaged not found."""
    import h5py

    zipped = path.endswith(".keras")
    if not (zipfile.is_zipfile(path) if zipped else h5py.is_hdf5(path)):
        form = "a Keras file (a zip archive)" if zipped else "an HDF5 file"
        raise UserError(f"{flag}: is not {form}; it is damaged, cut short or something else. Received: {path!r}")


@contextmanager
def _nothing_left_out() -> Iterator[None]:
    """Keras only warns where a layer finds no weights in a file and keeps its random ones: that is an error here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="(?is).*(freshly|skipp|could not be loaded)")
        yield
