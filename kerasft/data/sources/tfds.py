"""The tfds source: TensorFlow Datasets (tensorflow.org/datasets) by name, from a prepared directory, or by own code."""

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
from kerasft.data import files
from kerasft.data.listing import SPLIT_ALIASES, Finding, Listing, encode, find_train_classes
from kerasft.settings import spec as specs
from kerasft.settings.errors import UserError, did_you_mean

# A download is tried again so often, in about two seconds. TFDS's own ten times take three and a half minutes.
_MAX_RETRIES = 4


def list_tfds(argument: str, task: str, splits: str, allow_imports: tuple[str, ...]) -> Listing:
    """Lists an image dataset of TensorFlow Datasets. TFDS downloads and prepares it where it is not prepared yet.

    The encoded images are copied once into a temporary file, which vanishes with the process. So any example can be read
    at any time, and only labels and offsets are in memory.

    Args:
        argument: what follows `tfds:`. NAME[/CONFIG][:VERSION]; a directory that TFDS has prepared, or the directory
            above its versions; or the dotted path of a builder class, with its package in `allow_imports`.
        task: `--task`. The label is a ClassLabel (single-label), a Sequence of ClassLabel (multi-label), or floats
            (regression; integers too if `task` is `regression`): the supervised label, or the only such feature.
        splits: `--splits`, such as `train=train[:80%]; val=train[80%:]`; empty for the splits of the dataset.
        allow_imports: packages that code may be imported from.

    Raises:
        UserError: no such dataset, no way to get it, no label, or no train split.
    """
    received = f"Received: 'tfds:{argument}'"
    with _silenced():
        builder = _prepare(argument, allow_imports, received)
        image, label, task = _choose_features(builder.info, task)
        tfds_splits, findings = _choose_splits(builder.info, splits, received)
        read, ids, split_names, labels = _copy_examples(builder, tfds_splits, image, label)
    feature = builder.info.features[label]
    if task == "regression":
        rules = [None if np.isfinite(value).all() else "is not finite" for value in labels]
        labels = [np.ravel(value).tolist() for value in labels]
        names = [label] if len(labels[0]) == 1 else [f"{label}[{i}]" for i in range(len(labels[0]))]
    else:
        names = (feature if task == "single_label" else feature.feature).names
        # TFDS writes -1 where an example has no label, as in many test splits.
        rules = [None if (np.ravel(value) >= 0).all() else "has no label" for value in labels]
        labels = [[names[i] for i in np.ravel(value)] for value in labels]
    rejected = {i: ("no_label", f"the example {rule}") for i, rule in enumerate(rules) if rule}
    if task == "single_label":
        good = [i for i in range(len(labels)) if i not in rejected]
        train_classes, unknown = find_train_classes([labels[i] for i in good], [split_names[i] for i in good])
        detail = "class '{}' has no training image"
        rejected |= {good[i]: ("class_not_in_train", detail.format(name)) for i, name in unknown.items()}
        names = [name for name in names if name in train_classes]
        if len(names) < 2:
            raise UserError(
                f"--data: at least two classes are needed; in train are: {', '.join(names) or 'none'}. {received}"
            )
    findings += [Finding(ids[i], kind, "reject", detail) for i, (kind, detail) in rejected.items()]
    rows = [i for i in range(len(labels)) if i not in rejected]
    return Listing(
        name=builder.name,
        task=task,
        ids=np.array([ids[i] for i in rows]),
        labels=encode([labels[i] for i in rows], names, task),
        split_names=np.array([split_names[i] for i in rows], dtype="<U5"),
        classes=tuple(names),
        read=lambda index: read(rows[index]),
        findings=tuple(findings),
        named_splits=frozenset(tfds_splits),
    )


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Suppresses the progress bars, prints and warnings of TFDS. Its errors are reported by `list_tfds`."""
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    logging.disable(logging.WARNING)
    try:
        with stderr_filter.without_notices(), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)


def _prepare(argument: str, allow_imports: tuple[str, ...], received: str) -> Any:
    """Returns the `tfds.core.DatasetBuilder`, with its data prepared."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download import downloader

    place = files.expand(argument, "--data")
    name = re.split("[/:]", argument)[0]
    try:
        if prepared := _find_prepared(place):
            return tfds.builder_from_directory(prepared)
        if not argument or argument[0] in "./~" or place.is_dir():
            rule = "no dataset_info.json in it or in a version folder below (a folder of images is folder:DIR)"
            raise UserError(f"--data: {rule}. {received}")
        builder = _import_builder(argument, allow_imports, received) if "." in name else tfds.builder(argument)
    except tfds.core.DatasetNotFoundError:
        near = did_you_mean(name, tfds.list_builders(with_community_datasets=False))
        raise UserError(f"--data: TensorFlow Datasets has no such dataset{near}. {received}") from None
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"--data: cannot be opened: {_first_line(error)}. {received}") from error
    downloader.MAX_RETRIES = _MAX_RETRIES
    try:
        builder.download_and_prepare()
    except Exception as error:
        rule = f"cannot be downloaded and prepared: {_first_line(error)}"
        ways = "name a prepared directory as tfds:DIR, or set TFDS_DATA_DIR to the directory above it"
        raise UserError(f"--data: {rule}; {ways}. {received}") from error
    return builder


def _import_builder(argument: str, allow_imports: tuple[str, ...], received: str) -> Any:
    """Returns a builder from code of the user: `package.module.Class[/CONFIG]`."""
    import tensorflow_datasets as tfds

    path, _, config = argument.partition("/")
    package = path.partition(".")[0]
    if package not in allow_imports:
        rule = f"{path} is code from outside; allow it with --allow_imports={package} on the command line"
        raise UserError(f"--data: {rule}. {received}")
    kind = specs.resolve(specs.Spec(path), "--data", outside=tfds.core.DatasetBuilder)
    return kind(config=config or None)


def _find_prepared(folder: Path) -> Path | None:
    """Returns the folder itself, or the newest version in it, if that holds a `dataset_info.json`."""
    if (folder / "dataset_info.json").is_file():
        return folder
    infos = folder.glob("*/dataset_info.json") if folder.is_dir() else ()
    versions = [path.parent for path in infos if re.fullmatch(r"\d+\.\d+\.\d+", path.parent.name)]
    return max(versions, key=lambda path: [int(part) for part in path.name.split(".")], default=None)


def _first_line(error: Exception) -> str:
    """Returns the first line of the message of an error, shortened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0].rstrip('.')[:120]}" if lines else type(error).__name__


def _choose_features(info: Any, task: str) -> tuple[str, str, str]:
    """Returns the names of the image and of the label, and the task: the supervised features, or the only ones."""
    features = info.features if hasattr(info.features, "items") else {}
    roles = {name: _role(feature, task) for name, feature in features.items()}
    images = [name for name, role in roles.items() if role == "image"]
    labels = [name for name, role in roles.items() if role not in ("image", None) and task in ("auto", role)]
    keys = info.supervised_keys or ()
    if len(keys) == 2 and keys[0] in images and keys[1] in labels:
        images, labels = [keys[0]], [keys[1]]
    if len(images) == len(labels) == 1:
        return images[0], labels[0], roles[labels[0]]
    listed = ", ".join(f"{name} ({type(feature).__name__})" for name, feature in features.items())
    wanted = "label (ClassLabel, Sequence of ClassLabel, or float)" if task == "auto" else f"label for {task}"
    flag = "--data" if task == "auto" else "--task"
    raise UserError(f"{flag}: one encoded image and one {wanted} are needed; {info.name} has {listed or 'neither'}.")


def _role(feature: Any, task: str) -> str | None:
    """Returns `image`, or the task that a feature is a label of, or None."""
    from tensorflow_datasets import features

    if type(feature) is features.Image:
        # TFDS stores the bytes of float images as if they were colours.
        return None if feature.np_dtype == np.float32 else "image"
    if isinstance(feature, features.ClassLabel):
        return "single_label" if feature.names else None
    if isinstance(feature, features.Sequence):
        inner = feature.feature
        return "multi_label" if isinstance(inner, features.ClassLabel) and inner.names else None
    if type(feature) in (features.Scalar, features.Tensor) and len(feature.shape) < 2 and None not in feature.shape:
        kinds = "fiu" if task == "regression" else "f"
        return "regression" if np.dtype(feature.np_dtype).kind in kinds else None
    return None


def _choose_splits(info: Any, text: str, received: str) -> tuple[dict[str, str], list[Finding]]:
    """Returns what to ask TFDS for by split, and findings about splits that are not used."""
    pairs = [(name, name) for name in info.splits if name in SPLIT_ALIASES]
    findings = [
        Finding(f"{name}/", "unknown_split", "reject", "not train, validation or test; --splits can name it")
        for name in info.splits
        if not text and name not in SPLIT_ALIASES
    ]
    if text:
        received = f"Received: {text!r}"
        pairs = [
            tuple(side.strip() for side in piece.partition("=")[::2]) for piece in text.split(";") if piece.strip()
        ]
    tfds_splits: dict[str, str] = {}
    for name, tfds_split in pairs:
        if name not in SPLIT_ALIASES or SPLIT_ALIASES[name] in tfds_splits:
            form = "names train, val and test, each once, such as train=train[:80%]; val=train[80%:]"
            raise UserError(f"--splits: {form}. {received}")
        try:
            count = info.splits[tfds_split].num_examples
        except Exception as error:
            raise UserError(f"--splits: {name}: {_first_line(error)}. {received}") from error
        if not count:
            raise UserError(f"--splits: {name} is empty. {received}")
        tfds_splits[SPLIT_ALIASES[name]] = tfds_split
    if "train" not in tfds_splits:
        rule = f"train is needed, such as train={next(iter(info.splits), 'train')}; the dataset has {', '.join(info.splits)}"
        raise UserError(f"--splits: {rule}. {received}")
    return tfds_splits, findings


def _copy_examples(builder: Any, tfds_splits: dict[str, str], image: str, label: str) -> tuple[Any, list, list, list]:
    """Copies the encoded bytes of all examples into a temporary file, in order.

    Returns:
        A function from index to encoded bytes; and ids, names of splits and labels, as TFDS has them.
    """
    file = tempfile.TemporaryFile()  # noqa: SIM115 - closed when `read` is garbage collected
    ids, split_names, labels, offsets = [], [], [], [0]

    def read(index: int) -> bytes:
        return os.pread(file.fileno(), offsets[index + 1] - offsets[index], offsets[index])

    weakref.finalize(read, file.close)
    for split_name, tfds_split in tfds_splits.items():
        for number, example in enumerate(_read_examples(builder, tfds_split, image)):
            offsets.append(offsets[-1] + file.write(example[image]))
            ids.append(example["tfds_id"].decode() if "tfds_id" in example else f"{split_name}/{number:06d}")
            split_names.append(split_name)
            labels.append(example[label])
    file.flush()
    if len(set(ids)) < len(ids):
        asked = "; ".join(f"{name}={tfds_split}" for name, tfds_split in tfds_splits.items())
        raise UserError(f"--splits: some examples are in two splits. Received: {asked!r}")
    return read, ids, split_names, labels


def _read_examples(builder: Any, tfds_split: str, image: str) -> Iterator[dict[str, Any]]:
    """Yields the examples of a split, always in the same order, with images as encoded bytes."""
    import tensorflow_datasets as tfds

    arguments = {"split": tfds_split, "decoders": {image: tfds.decode.SkipDecoding()}}
    in_order = tfds.ReadConfig(add_tfds_id=True, interleave_cycle_length=1, try_autocache=False)
    try:
        stream = builder.as_dataset(**arguments, shuffle_files=False, read_config=in_order)
    # TFDS reads array_record files as a data source only.
    except NotImplementedError:
        yield from builder.as_data_source(**arguments)
    else:
        yield from stream.as_numpy_iterator()
