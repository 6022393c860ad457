"""What every source gives: examples in one fixed order, with labels of one form. Nothing is decoded here."""

import hashlib
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from kerasft.settings.errors import UserError

SPLITS = ("train", "val", "test")
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}


class Finding(NamedTuple):
    """Something about one file that the user should know; `reject` means that it is not used."""

    path: str
    kind: str
    verdict: str
    detail: str


@dataclass(frozen=True)
class Listing:
    """Examples in one fixed order.

    Attributes:
        name: short name of the data, for folders.
        ids: str [N], path relative to the source, with forward slashes.
        task: `single_label`, `multi_label` or `regression`.
        labels: int32 [N], index into `classes`; multi-label: float32 [N, C] of 0 and 1; regression: float32 [N, D].
        parts: str [N], `train`, `val`, `test`, or empty where the source says nothing.
        classes: label names, in the order of the labels; for regression the D names of the targets.
        read: index to encoded bytes.
        findings: what was passed over while listing.
        digests: str [N], SHA-256 of each file's bytes; None before the audit.
        pixels: str [N], SHA-256 of each decoded picture: equal where a network sees the same; None before the audit.
    """

    name: str
    task: str
    ids: np.ndarray
    labels: np.ndarray
    parts: np.ndarray
    classes: tuple[str, ...]
    read: Callable[[int], bytes]
    findings: tuple[Finding, ...] = ()
    digests: np.ndarray | None = None
    pixels: np.ndarray | None = None

    def without_rejected(self, good: np.ndarray, digests: np.ndarray, pixels: np.ndarray) -> "Listing":
        """The examples where bool [N] `good` holds, with their digests; `read` then gives the audited bytes or none.

        A file that is gone or has changed since raises UserError as it is read.
        """
        rows, listed = np.flatnonzero(good), self.read
        ids, digests = self.ids[rows], digests[rows]

        def read(index: int) -> bytes:
            try:
                contents = listed(int(rows[index]))
            except (OSError, ValueError) as error:
                reason = f"can no longer be read ({getattr(error, 'strerror', None) or error})"
            else:
                if hashlib.sha256(contents).hexdigest() == digests[index]:
                    return contents
                reason = "has changed since the audit"
            raise UserError(f"--data: a picture {reason}; the same command starts again. Received: '{ids[index]}'")

        return replace(
            self,
            ids=ids,
            labels=self.labels[rows],
            parts=self.parts[rows],
            read=read,
            digests=digests,
            pixels=pixels[rows],
        )


def printable(name: str) -> str:
    """A name of the file system's in which bytes that are no UTF-8, and control characters, are written as escapes."""
    if name.isprintable():
        return name
    return "".join(c if _harmless(c) else c.encode("unicode_escape").decode() for c in name)


def folder_name(name: str) -> str:
    """A name that is safe as that of one folder: printable, without separators, and no step upwards."""
    safe = printable(name).replace("/", "_").replace("\\", "_")
    return safe if safe.strip(". ") else "data"


def _harmless(character: str) -> bool:
    """Neither a control character, a line's end, nor half of a surrogate pair, which stands for a byte that is no UTF-8."""
    return unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp")


def shown(listing: Listing, received: str) -> Listing:
    """The listing with names that can be printed, written as UTF-8, and made a folder's.

    Raises:
        UserError: that of a class cannot be: an exported model says it, byte for byte.
    """
    word = "target" if listing.task == "regression" else "class"
    for name in listing.classes:
        if not all(map(_harmless, name)):
            rule = "is no UTF-8, or holds control characters; rename its folder, or its label in the table"
            raise UserError(f"--data: the name of {word} '{printable(name)}' {rule}. Received: {printable(received)!r}")
    return replace(
        listing,
        name=folder_name(listing.name),
        ids=np.array([printable(name) for name in listing.ids.tolist()]),
        findings=tuple(f._replace(path=printable(f.path), detail=printable(f.detail)) for f in listing.findings),
    )


def train_classes(labels: Sequence[list[str]], parts: Sequence[str]) -> tuple[set[str], dict[int, str]]:
    """The classes that examples of train have, and the index of each example that has another, with its name."""
    known = {name for label, part in zip(labels, parts) if part in ("train", "") for name in label}
    return known, {i: name for i, label in enumerate(labels) for name in label if name not in known}


def encode(labels: Sequence[list], classes: Sequence[str], task: str) -> np.ndarray:
    """Lists of class names, or of numbers under regression, in the form of `task`: see `Listing.labels`."""
    if task == "regression":
        return np.array(labels, np.float32)
    index = {name: i for i, name in enumerate(classes)}
    if task == "single_label":
        return np.array([index[label[0]] for label in labels], np.int32)
    encoded = np.zeros((len(labels), len(classes)), np.float32)
    for row, label in enumerate(labels):
        encoded[row, [index[name] for name in label]] = 1
    return encoded
