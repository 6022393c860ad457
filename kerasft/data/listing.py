"""What every source returns: examples in one fixed order, with labels of one form. Nothing is decoded here."""

import hashlib
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from kerasft.settings.errors import UserError

SPLITS = ("train", "val", "test")
# Names of folders and cells to the split that they mean.
SPLIT_ALIASES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


class Finding(NamedTuple):
    """Something about one file or folder that the user should know. Under the verdict `reject` it is not used.

    Attributes:
        path: of the file or folder, relative to the source.
        kind: one word, in lower case with underscores.
        verdict: `reject` or `warn`.
        detail: why, in a few words.
        score: how suspicious it is, in [0, 1]; None for a plain fact.
        suggested: the label that the image more likely has, for a suspect label; else empty.
        other: the path of the other image, where two are alike; else empty.
    """

    path: str
    kind: str
    verdict: str
    detail: str
    score: float | None = None
    suggested: str = ""
    other: str = ""

    def to_json(self) -> dict[str, str | float]:
        """Returns the row of `audit.json`, without what is not known."""
        return {name: value for name, value in self._asdict().items() if value not in (None, "") or name == "detail"}


@dataclass(frozen=True)
class Listing:
    """Examples in one fixed order.

    Attributes:
        name: short name of the data, for folders.
        ids: str [N], path relative to the source, with forward slashes.
        task: `single_label`, `multi_label` or `regression`.
        labels: int32 [N], index into `classes`; multi-label: float32 [N, C] of 0 and 1; regression: float32 [N, D].
        split_names: str [N], `train`, `val`, `test`, or empty where the source names no split.
        classes: label names, in the order of the labels; for regression the D names of the targets.
        read: index to encoded bytes.
        findings: what was skipped while listing.
        digests: str [N], SHA-256 of the bytes of each file; None before the audit.
        pixel_digests: str [N], SHA-256 of each decoded image; None before the audit.
        framing: how the images are made square, a name of `framing.FRAMINGS`.
        groups: str [N], the group of each image (`--group_column`, `--group_pattern`), or None without groups.
        near_groups: int [N], equal for near duplicates, the least row of each group; None before the audit.
        named_splits: the splits that the source names, also those of which no image is left.
        unlabelled: the images of `--unlabelled`, whose task is `unlabelled` and whose labels are float32 [N, 0]; or None.
    """

    name: str
    task: str
    ids: np.ndarray
    labels: np.ndarray
    split_names: np.ndarray
    classes: tuple[str, ...]
    read: Callable[[int], bytes]
    findings: tuple[Finding, ...] = ()
    digests: np.ndarray | None = None
    pixel_digests: np.ndarray | None = None
    framing: str = "crop"
    groups: np.ndarray | None = None
    near_groups: np.ndarray | None = None
    named_splits: frozenset[str] = frozenset()
    unlabelled: "Listing | None" = None

    @property
    def max_examples(self) -> int:
        """Images that phases may train on, at most: all, and those of `--unlabelled`."""
        return len(self.ids) + (len(self.unlabelled.ids) if self.unlabelled else 0)

    def without_rejected(self, usable: np.ndarray, digests: np.ndarray, pixel_digests: np.ndarray) -> "Listing":
        """Returns the usable examples with their digests. Its `read` checks that a file is still the audited one.

        Args:
            usable: bool [N].
            digests, pixel_digests: str [N], as the attributes.

        Raises (`read`):
            UserError: the file has vanished or has changed since the audit.
        """
        rows, read_listed = np.flatnonzero(usable), self.read
        flag = "unlabelled" if self.task == "unlabelled" else "data"
        ids, digests = self.ids[rows], digests[rows]

        def read(index: int) -> bytes:
            try:
                contents = read_listed(int(rows[index]))
            except (OSError, ValueError) as error:
                reason = f"can no longer be read ({getattr(error, 'strerror', None) or error})"
            else:
                if hashlib.sha256(contents).hexdigest() == digests[index]:
                    return contents
                reason = "has changed since the audit"
            raise UserError(f"--{flag}: an image {reason}; the same command starts again. Received: '{ids[index]}'")

        return replace(
            self,
            ids=ids,
            labels=self.labels[rows],
            split_names=self.split_names[rows],
            read=read,
            digests=digests,
            pixel_digests=pixel_digests[rows],
            groups=None if self.groups is None else self.groups[rows],
        )


def printable(name: str) -> str:
    """Returns a file name with control characters, and bytes that are no UTF-8, written as escapes."""
    if name.isprintable():
        return name
    return "".join(c if _is_harmless(c) else c.encode("unicode_escape").decode() for c in name)


def folder_name(name: str) -> str:
    """Returns a name that is safe for one folder: printable, without separators, and not `.` or `..`."""
    safe = printable(name).replace("/", "_").replace("\\", "_")
    return safe if safe.strip(". ") else "data"


def _is_harmless(character: str) -> bool:
    """Tells whether a character is no control character, no line end, and no surrogate (a byte that is no UTF-8)."""
    return unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp")


def with_printable_names(listing: Listing, received: str) -> Listing:
    """Returns the listing with names that can be printed, written as UTF-8, and used for a folder.

    Args:
        received: `--data`, for the message.

    Raises:
        UserError: a class name has harmful characters. It is not escaped, because the exported model returns it.
    """
    word = "target" if listing.task == "regression" else "class"
    for name in listing.classes:
        if not all(map(_is_harmless, name)):
            rule = "is no UTF-8, or holds control characters; rename its folder, or its label in the table"
            raise UserError(f"--data: the name of {word} '{printable(name)}' {rule}. Received: {printable(received)!r}")
    return replace(
        listing,
        name=folder_name(listing.name),
        ids=np.array([printable(name) for name in listing.ids.tolist()]),
        findings=tuple(f._replace(path=printable(f.path), detail=printable(f.detail)) for f in listing.findings),
    )


def find_train_classes(labels: Sequence[list[str]], split_names: Sequence[str]) -> tuple[set[str], dict[int, str]]:
    """Finds the classes that training examples have, and the examples that have another class.

    Args:
        labels: class names of each example.
        split_names: `train`, `val`, `test` or empty. An example without a split counts as train.

    Returns:
        The classes of train; and by index of an example a class of it that train lacks.
    """
    classes = {name for label, split in zip(labels, split_names) if split in ("train", "") for name in label}
    return classes, {i: name for i, label in enumerate(labels) for name in label if name not in classes}


def encode(labels: Sequence[list], classes: Sequence[str], task: str) -> np.ndarray:
    """Encodes lists of class names, or of numbers under regression, in the form of `Listing.labels`."""
    if task == "regression":
        return np.array(labels, np.float32)
    index = {name: i for i, name in enumerate(classes)}
    if task == "single_label":
        return np.array([index[label[0]] for label in labels], np.int32)
    encoded = np.zeros((len(labels), len(classes)), np.float32)
    for row, label in enumerate(labels):
        encoded[row, [index[name] for name in label]] = 1
    return encoded
