"""What every source gives: examples in one fixed order, with labels of one form. Nothing is decoded here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

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
        digests: str [N], SHA-256 of each file's bytes; empty before the audit.
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

    def audited(self, good: np.ndarray, digests: np.ndarray, findings: tuple[Finding, ...]) -> "Listing":
        """The examples where bool [N] `good` holds, with their digests, and findings added."""
        rows = np.flatnonzero(good)
        read = self.read
        return replace(
            self,
            ids=self.ids[rows],
            labels=self.labels[rows],
            parts=self.parts[rows],
            read=lambda i: read(int(rows[i])),
            findings=self.findings + findings,
            digests=digests[rows],
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
