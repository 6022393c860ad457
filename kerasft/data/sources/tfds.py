"""The tfds source: TensorFlow Datasets (tensorflow.org/datasets) by name, from a prepared directory, or of one's own."""

import contextlib
import io
import logging
import os
import re
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kerasft.console import stderr_filter
from kerasft.data.listing import SPLIT_NAMES, Finding, Listing, encode, train_classes
from kerasft.settings import spec as specs
from kerasft.settings.errors import UserError, did_you_mean

_RETRIES = 4  # about two seconds; TFDS itself has ten, three and a half minutes without a network


def catalog(argument: str, task: str, splits: str, allow_imports: tuple[str, ...]) -> Listing:
    """Lists an image set of TensorFlow Datasets; what is not prepared yet is downloaded and prepared by TFDS.

    The encoded pictures are copied once into a temporary file that is gone with the process, so that any example can
    be read at any time; only labels and places are held in memory.

    Args:
        argument: what follows `tfds:`. NAME[/CONFIG][:VERSION]; a directory that TFDS has prepared, or the one above
            its versions; or the dotted path of a builder class, with its package in `allow_imports`.
        task: `--task`. The label is the ClassLabel (single-label), Sequence of ClassLabel (multi-label), or float
            numbers (regression; whole ones if `task` says so) that the set calls its label, or its only one.
        splits: `--splits`, such as `train=train[:80%]; val=train[80%:]`; empty for the set's own.
        allow_imports: packages that code may come from.

    Raises:
        UserError: no such set, no way to get it, no label or no train split.
    """
    received = f"Received: 'tfds:{argument}'"
    with _silence():
        builder = _builder(argument, allow_imports, received)
        image, label, task = _features(builder.info, task)
        parts, findings = _parts(builder.info, splits, received)
        read, ids, places, labels = _spooled(builder, parts, image, label)
    feature = builder.info.features[label]
    if task == "regression":
        rules = [None if np.isfinite(value).all() else "is not finite" for value in labels]
        labels = [np.ravel(value).tolist() for value in labels]
        names = [label] if len(labels[0]) == 1 else [f"{label}[{i}]" for i in range(len(labels[0]))]
    else:
        names = (feature if task == "single_label" else feature.feature).names
        # TFDS marks what has no label, as many a test split, with -1.
        rules = [None if (np.ravel(value) >= 0).all() else "has no label" for value in labels]
        labels = [[names[i] for i in np.ravel(value)] for value in labels]
    refused = {i: ("no_label", f"the example {rule}") for i, rule in enumerate(rules) if rule}
    if task == "single_label":
        good = [i for i in range(len(labels)) if i not in refused]
        known, unknown = train_classes([labels[i] for i in good], [places[i] for i in good])
        detail = "class '{}' has no training picture"
        refused |= {good[i]: ("class_not_in_train", detail.format(name)) for i, name in unknown.items()}
        names = [name for name in names if name in known]
        if len(names) < 2:
            raise UserError(
                f"--data: at least two classes are needed; in train are: {', '.join(names) or 'none'}. {received}"
            )
    findings += [Finding(ids[i], kind, "reject", detail) for i, (kind, detail) in refused.items()]
    rows = [i for i in range(len(labels)) if i not in refused]
    return Listing(
        name=builder.name,
        task=task,
        ids=np.array([ids[i] for i in rows]),
        labels=encode([labels[i] for i in rows], names, task),
        parts=np.array([places[i] for i in rows], dtype="<U5"),
        classes=tuple(names),
        read=lambda index: read(rows[index]),
        findings=tuple(findings),
    )


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keeps TFDS's bars, prints and warnings off the screen; its errors are ours to tell."""
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    logging.disable(logging.WARNING)
    try:
        with stderr_filter.without_notices(), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)


def _builder(argument: str, allow_imports: tuple[str, ...], received: str) -> Any:
    """The prepared `tfds.core.DatasetBuilder`."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download import downloader

    place = Path(argument).expanduser()
    name = re.split("[/:]", argument)[0]
    try:
        if prepared := _prepared(place):
            return tfds.builder_from_directory(prepared)
        if not argument or argument[0] in "./~" or place.is_dir():
            rule = "no dataset_info.json in it or in a version folder below (a folder of pictures is folder:DIR)"
            raise UserError(f"--data: {rule}. {received}")
        builder = _own(argument, allow_imports, received) if "." in name else tfds.builder(argument)
    except tfds.core.DatasetNotFoundError:
        near = did_you_mean(name, tfds.list_builders(with_community_datasets=False))
        raise UserError(f"--data: TensorFlow Datasets has no such set{near}. {received}") from None
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"--data: cannot be opened: {_line(error)}. {received}") from error
    downloader.MAX_RETRIES = _RETRIES
    try:
        builder.download_and_prepare()
    except Exception as error:
        rule = f"cannot be downloaded and prepared: {_line(error)}"
        ways = "give a directory that is prepared as tfds:DIR, or set TFDS_DATA_DIR to the one above it"
        raise UserError(f"--data: {rule}; {ways}. {received}") from error
    return builder


def _own(argument: str, allow_imports: tuple[str, ...], received: str) -> Any:
    """A builder of the user's: `package.module.Class[/CONFIG]`."""
    import tensorflow_datasets as tfds

    path, _, config = argument.partition("/")
    package = path.partition(".")[0]
    if package not in allow_imports:
        rule = f"{path} is code from outside; allow it with --allow_imports={package} on the command line"
        raise UserError(f"--data: {rule}. {received}")
    kind = specs.resolve(specs.Spec(path), "--data", outside=tfds.core.DatasetBuilder)
    return kind(config=config or None)


def _prepared(folder: Path) -> Path | None:
    """The folder itself or the newest version in it, whichever holds a `dataset_info.json`."""
    if (folder / "dataset_info.json").is_file():
        return folder
    found = folder.glob("*/dataset_info.json") if folder.is_dir() else ()
    versions = [path.parent for path in found if re.fullmatch(r"\d+\.\d+\.\d+", path.parent.name)]
    return max(versions, key=lambda path: [int(part) for part in path.name.split(".")], default=None)


def _line(error: Exception) -> str:
    """The first line of an error's message, shortened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0].rstrip('.')[:120]}" if lines else type(error).__name__


def _features(info: Any, task: str) -> tuple[str, str, str]:
    """Names of the image and of the label, and the task: those the set calls its own, or the only ones there are."""
    features = info.features if hasattr(info.features, "items") else {}
    forms = {name: _form(feature, task) for name, feature in features.items()}
    images = [name for name, form in forms.items() if form == "image"]
    labels = [name for name, form in forms.items() if form not in ("image", None) and task in ("auto", form)]
    keys = info.supervised_keys or ()
    if len(keys) == 2 and keys[0] in images and keys[1] in labels:
        images, labels = [keys[0]], [keys[1]]
    if len(images) == len(labels) == 1:
        return images[0], labels[0], forms[labels[0]]
    listed = ", ".join(f"{name} ({type(feature).__name__})" for name, feature in features.items())
    wanted = "label (ClassLabel, Sequence of ClassLabel, or float)" if task == "auto" else f"label for {task}"
    flag = "--data" if task == "auto" else "--task"
    raise UserError(f"{flag}: one encoded image and one {wanted} are needed; {info.name} has {listed or 'neither'}.")


def _form(feature: Any, task: str) -> str | None:
    """`image`, the task that a feature is a label for, or None."""
    from tensorflow_datasets import features

    if type(feature) is features.Image:
        return None if feature.np_dtype == np.float32 else "image"  # floats are stored as if they were colours
    if isinstance(feature, features.ClassLabel):
        return "single_label" if feature.names else None
    if isinstance(feature, features.Sequence):
        inner = feature.feature
        return "multi_label" if isinstance(inner, features.ClassLabel) and inner.names else None
    if type(feature) in (features.Scalar, features.Tensor) and len(feature.shape) < 2 and None not in feature.shape:
        kinds = "fiu" if task == "regression" else "f"
        return "regression" if np.dtype(feature.np_dtype).kind in kinds else None
    return None


def _parts(info: Any, text: str, received: str) -> tuple[dict[str, str], list[Finding]]:
    """What TFDS is asked for by split, and findings about splits that are not used."""
    pairs = [(name, name) for name in info.splits if name in SPLIT_NAMES]
    findings = [
        Finding(f"{name}/", "unknown_split", "reject", "not train, validation or test; --splits can name it")
        for name in info.splits
        if not text and name not in SPLIT_NAMES
    ]
    if text:
        received = f"Received: {text!r}"
        pairs = [
            tuple(part.strip() for part in piece.partition("=")[::2]) for piece in text.split(";") if piece.strip()
        ]
    parts: dict[str, str] = {}
    for name, wanted in pairs:
        if name not in SPLIT_NAMES or SPLIT_NAMES[name] in parts:
            form = "names train, val and test, each once, such as train=train[:80%]; val=train[80%:]"
            raise UserError(f"--splits: {form}. {received}")
        try:
            count = info.splits[wanted].num_examples
        except Exception as error:
            raise UserError(f"--splits: {name}: {_line(error)}. {received}") from error
        if not count:
            raise UserError(f"--splits: {name} is empty. {received}")
        parts[SPLIT_NAMES[name]] = wanted
    if "train" not in parts:
        rule = (
            f"train is needed, such as train={next(iter(info.splits), 'train')}; the set has {', '.join(info.splits)}"
        )
        raise UserError(f"--splits: {rule}. {received}")
    return parts, findings


def _spooled(builder: Any, parts: dict[str, str], image: str, label: str) -> tuple[Any, list, list, list]:
    """Reads all examples once, in order: a function from index to encoded bytes; ids, splits and labels as TFDS has them."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 - closed when nothing can read from it any more
    ids, places, labels, offsets = [], [], [], [0]

    def read(index: int) -> bytes:
        return os.pread(file.fileno(), offsets[index + 1] - offsets[index], offsets[index])

    weakref.finalize(read, file.close)
    for part, wanted in parts.items():
        for number, example in enumerate(_examples(builder, wanted, image)):
            offsets.append(offsets[-1] + file.write(example[image]))
            ids.append(example["tfds_id"].decode() if "tfds_id" in example else f"{part}/{number:06d}")
            places.append(part)
            labels.append(example[label])
    file.flush()
    if len(set(ids)) < len(ids):
        asked = "; ".join(f"{part}={wanted}" for part, wanted in parts.items())
        raise UserError(f"--splits: some examples are in two splits. Received: {asked!r}")
    return read, ids, places, labels


def _examples(builder: Any, wanted: str, image: str) -> Iterator[dict[str, Any]]:
    """The examples of a split, always in the same order, their pictures as encoded bytes."""
    import tensorflow_datasets as tfds

    given = {"split": wanted, "decoders": {image: tfds.decode.SkipDecoding()}}
    order = tfds.ReadConfig(add_tfds_id=True, interleave_cycle_length=1, try_autocache=False)
    try:
        stream = builder.as_dataset(**given, shuffle_files=False, read_config=order)
    except NotImplementedError:  # TFDS reads array_record files as a data source only
        yield from builder.as_data_source(**given)
    else:
        yield from stream.as_numpy_iterator()
