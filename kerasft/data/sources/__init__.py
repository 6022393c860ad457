"""Sources: each lists the examples that `--data` names."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from kerasft.console import console
from kerasft.data import class_names, files
from kerasft.data.exclusion import without_excluded
from kerasft.data.groups import match, with_pattern
from kerasft.data.listing import Listing, with_printable_names
from kerasft.data.sources.csv import list_csv
from kerasft.data.sources.folder import list_folder, list_unlabelled
from kerasft.data.sources.generated import list_generated
from kerasft.data.sources.tfds import list_tfds
from kerasft.settings import abstention
from kerasft.settings.config import FIELDS, Config
from kerasft.settings.errors import UserError, did_you_mean, one_of, printable

# The name of the data may have at most so many bytes. A file system allows 255, and a digest is added.
_MAX_NAME_BYTES = 200


def load(config: Config) -> Listing:
    """Lists the examples of `--data`, with labels as `--task` asks for, and the images of `--unlabelled`.

    Raises:
        UserError: an unknown kind of source, a source that cannot be read, a class name with harmful characters, or a
            setting that does not fit the task.
    """
    kind, _, argument = _add_prefix(config.data).partition(":")
    sources = {
        "digits": lambda: _list_digits(argument),
        "generated": lambda: list_generated(argument),
        "folder": lambda: list_folder(argument),
        "csv": lambda: list_csv(argument, config.task, config.group_column),
        "tfds": lambda: list_tfds(argument, config.task, config.splits, config.allow_imports),
    }
    if kind not in sources:
        names = ("digits", "generated:CLASSESxIMAGES", "folder:DIR", "csv:FILE", "tfds:NAME")
        candidates = [path.name for path in Path().iterdir() if path.is_dir() or path.suffix == ".csv"]
        near = did_you_mean(kind, sources) or did_you_mean(config.data, candidates)
        rule = f"must be one of {one_of(names)}{near or ', or an existing folder or .csv file'}"
        raise UserError(f"--data: {rule}. Received: {config.data!r}")
    if config.splits and kind != "tfds":
        raise UserError(f"--splits: is for tfds; {kind} names its own splits. Received: {config.splits!r}")
    if config.group_column and kind != "csv":
        raise UserError(f"--group_column: is for csv; {kind} has no columns. Received: {config.group_column!r}")
    if config.group_column and config.group_pattern:
        rule = f"not together with --group_column={config.group_column}; choose one"
        raise UserError(f"--group_pattern: {rule}. Received: {config.group_pattern!r}")
    listing = with_printable_names(sources[kind](), config.data)
    if listing.task != "regression":
        suspicious = class_names.find_suspicious(listing.classes, config.data)
        listing = replace(listing, findings=(*listing.findings, *suspicious))
    _check_name(listing.name, config.data)
    if config.task not in ("auto", listing.task):
        raise UserError(f"--task: {kind} is {listing.task}. Received: {config.task!r}")
    for flag, is_set, tasks in (
        ("sampling", config.sampling == "balanced", ("single_label",)),
        ("class_weights", config.class_weights == "balanced", ("single_label", "multi_label")),
        ("per_class_limit", config.per_class_limit is not None, ("single_label", "multi_label")),
        ("coverage", config.coverage is not None, ("single_label", "regression")),
    ):
        if is_set and listing.task not in tasks:
            value = getattr(config, flag)
            raise UserError(f"--{flag}: is for {' and '.join(tasks)}, and this is {listing.task}. Received: {value!r}")
    abstention.requested(config, listing.task)
    _warn_of_fractions(config, listing)
    if config.group_pattern:
        listing = with_pattern(listing, config.group_pattern)
    if config.unlabelled:
        if config.group_column:
            rule = "not together with --unlabelled, whose images have no row; name the groups by --group_pattern"
            raise UserError(f"--group_column: {rule}. Received: {config.group_column!r}")
        listing = replace(listing, unlabelled=_load_unlabelled(config.unlabelled, config.group_pattern))
    return without_excluded(listing, config.exclude) if config.exclude else listing


def _warn_of_fractions(config: Config, listing: Listing) -> None:
    """Says which fractions are not used. They are not refused: finished runs have such settings, and are opened again."""
    for split in sorted(listing.named_splits - {"train"}):
        flag = f"{split}_fraction"
        value = getattr(config, flag)
        if value != FIELDS[flag].default:
            console.say(f"WARNING: --{flag}: is not used, for the source names the {split} split. Received: {value}")


def _add_prefix(data: str) -> str:
    """Returns `--data` with `folder:` or `csv:` put before the bare path of an existing folder or table."""
    if data in ("", "digits") or data.startswith(("folder:", "csv:", "tfds:", "generated:")):
        return data
    path = files.expand(data, "--data")
    return f"folder:{data}" if path.is_dir() else f"csv:{data}" if path.suffix == ".csv" and path.is_file() else data


def _load_unlabelled(unlabelled: str, group_pattern: str) -> Listing:
    kind, _, argument = _add_prefix(unlabelled).partition(":")
    if kind != "folder":
        raise UserError(f"--unlabelled: must be folder:DIR, or an existing folder. Received: {unlabelled!r}")
    listing = with_printable_names(list_unlabelled(argument), unlabelled)
    if not group_pattern:
        return listing
    # A path is matched as one of `--data` is. An image without a group has that of its own path, as there.
    paths = [path.removeprefix("unlabelled:") for path in listing.ids.tolist()]
    names = match(group_pattern, paths)
    return replace(listing, groups=np.array([name or f"/unlabelled:{path}" for name, path in zip(names, paths)]))


def _check_name(name: str, data: str) -> None:
    """Refuses a name that is not the name of one folder: it is used in `runs/NAME-DIGEST` and `EXPORT_DIR/NAME`."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        size = 0
    if name in ("", ".", "..") or "/" in name or printable(name) != name or not 0 < size <= _MAX_NAME_BYTES:
        rule = f"its name becomes the name of a folder; it must be 1 to {_MAX_NAME_BYTES} bytes of printable UTF-8, and not .."
        raise UserError(f"--data: {rule}; rename it. Received: {data!r}")


def _list_digits(argument: str) -> Listing:
    """Lists scikit-learn's 1,797 handwritten digits of 8x8 pixels (UCI Optical Recognition of Handwritten Digits)."""
    if argument:
        raise UserError(f"--data: digits takes no argument. Received: 'digits:{argument}'")
    if Path("digits").is_dir():
        rule = "the embedded digits are used, not the folder digits/ that is here; for the folder write --data=folder:digits"
        console.say(f"WARNING: --data: {rule}")
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
        split_names=np.full(count, "", dtype="<U5"),
        classes=tuple(str(name) for name in bunch.target_names),
        read=read,
    )
