"""Sources: what `--data` names, as a Listing of examples."""

from pathlib import Path

import numpy as np

from kerasft.data.listing import Listing, shown
from kerasft.data.sources.csv import table
from kerasft.data.sources.folder import folder
from kerasft.data.sources.generated import generated
from kerasft.data.sources.tfds import catalog
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError, did_you_mean, one_of, printable

_LONGEST = 200  # bytes of a name, for a folder's own name may have 255 and gets a digest


def load(config: Config) -> Listing:
    """Lists the examples of `--data`, with labels as `--task` asks for.

    Raises:
        UserError: an unknown kind of source, a source that cannot be read, a class whose name cannot be written, or a
            setting that its task refuses.
    """
    kind, _, argument = _prefixed(config.data).partition(":")
    sources = {
        "digits": lambda: _digits(argument),
        "generated": lambda: generated(argument),
        "folder": lambda: folder(argument),
        "csv": lambda: table(argument, config.task),
        "tfds": lambda: catalog(argument, config.task, config.splits, config.allow_imports),
    }
    if kind not in sources:
        names = ("digits", "generated:CLASSESxPICTURES", "folder:DIR", "csv:FILE", "tfds:NAME")
        here = [path.name for path in Path().iterdir() if path.is_dir() or path.suffix == ".csv"]
        near = did_you_mean(kind, sources) or did_you_mean(config.data, here)
        rule = f"must be one of {one_of(names)}{near or ', or a folder or a .csv that is there'}"
        raise UserError(f"--data: {rule}. Received: {config.data!r}")
    if config.splits and kind != "tfds":
        raise UserError(f"--splits: is for tfds; {kind} names its own. Received: {config.splits!r}")
    listing = shown(sources[kind](), config.data)
    _check_name(listing.name, config.data)
    if config.task not in ("auto", listing.task):
        raise UserError(f"--task: {kind} is {listing.task}. Received: {config.task!r}")
    for flag, asked, tasks in (
        ("sampling", config.sampling == "balanced", ("single_label",)),
        ("class_weights", config.class_weights == "balanced", ("single_label", "multi_label")),
        ("per_class_limit", config.per_class_limit is not None, ("single_label", "multi_label")),
    ):
        if asked and listing.task not in tasks:
            value = getattr(config, flag)
            raise UserError(f"--{flag}: is for {' and '.join(tasks)}, and this is {listing.task}. Received: {value!r}")
    return listing


def _prefixed(data: str) -> str:
    """`--data` with the kind of source before a bare folder or table that is there."""
    path = Path(data).expanduser()
    if data in ("", "digits") or data.startswith(("folder:", "csv:", "tfds:", "generated:")):
        return data
    return f"folder:{data}" if path.is_dir() else f"csv:{data}" if path.suffix == ".csv" and path.is_file() else data


def _check_name(name: str, data: str) -> None:
    """Refuses a name that `runs/NAME-DIGEST` and `EXPORT_DIR/NAME` cannot have, or would not stay below them with."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        size = 0
    if name in ("", ".", "..") or "/" in name or printable(name) != name or not 0 < size <= _LONGEST:
        rule = (
            f"its name names the export's folder, so it must be of 1 to {_LONGEST} bytes of printable UTF-8, and not .."
        )
        raise UserError(f"--data: {rule}; rename it. Received: {data!r}")


def _digits(argument: str) -> Listing:
    """scikit-learn's 1,797 handwritten digits of 8x8 pixels (UCI Optical Recognition of Handwritten Digits)."""
    if argument:
        raise UserError(f"--data: digits takes no argument. Received: 'digits:{argument}'")
    import io

    from PIL import Image
    from sklearn.datasets import load_digits

    bunch = load_digits()

    def read(index: int) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(np.uint8(np.round(bunch.images[index] * 255 / 16))).save(buffer, "PNG")
        return buffer.getvalue()

    count = len(bunch.target)
    return Listing(
        name="digits",
        task="single_label",
        ids=np.array([f"digits/{i:04d}.png" for i in range(count)]),
        labels=bunch.target.astype(np.int32),
        parts=np.full(count, "", dtype="<U5"),
        classes=tuple(str(name) for name in bunch.target_names),
        read=read,
    )
