"""Splits: the examples of train, val and test, carved where the source does not say."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kerasft.data.listing import SPLITS, Finding, Listing
from kerasft.errors import UserError


@dataclass(frozen=True)
class Split:
    """The examples of one split.

    Attributes:
        ids: str [N].
        labels: int32 [N], float32 [N, C] of 0 and 1, or float32 [N, D], by task.
        read: index to encoded bytes.
        pictures: index array [B] to decoded uint8 [B, S, S, 3]; None where they did not fit into memory.
    """

    ids: np.ndarray
    labels: np.ndarray
    read: Callable[[int], bytes]
    pictures: Callable[[np.ndarray], np.ndarray] | None

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Splits:
    """What a run trains on.

    Attributes:
        name: short name of the data.
        task: `single_label`, `multi_label` or `regression`.
        train, val, test: the examples.
        classes: label names, in the order of the labels; for regression the names of the targets.
        findings: what is wrong with files or folders.
        digest: 16 hex digits of all files' bytes, labels and splits.
    """

    name: str
    task: str
    train: Split
    val: Split
    test: Split
    classes: tuple[str, ...]
    findings: tuple[Finding, ...]
    digest: str

    def counts(self) -> dict[str, dict[str, int]]:
        """Examples by split and class name (multi-label: positives); for regression all as `examples`."""
        table = {}
        for part in SPLITS:
            split = getattr(self, part)
            if self.task == "regression":
                table[part] = {"examples": len(split)}
            else:
                positives = _positives(split.labels, len(self.classes)).sum(0)
                table[part] = {name: int(count) for name, count in zip(self.classes, positives)}
        return table


def carve(
    listing: Listing, pictures: np.ndarray | None, val_fraction: float, test_fraction: float, seed: int
) -> Splits:
    """Gives every example a split: the source's own where it has it, else a stratified, seeded share of train.

    Args:
        listing: audited examples.
        pictures: uint8 [N, S, S, 3] in the listing's order, or None.
        val_fraction, test_fraction: share of each class's training pictures for a split that is missing.
        seed: chooses the share; an example's rank depends on the seed and its bytes only, so that adding a
            file moves few others, and equal files stay together.

    Raises:
        UserError: a class without a readable training picture, or a split that comes out empty.
    """
    parts = listing.parts.copy()
    parts[parts == ""] = "train"
    given = set(parts)
    # The test share is of all that is there; val is of what then remains.
    for part, fraction in (("test", test_fraction), ("val", val_fraction)):
        if part not in given:
            for label in range(len(listing.classes)):
                rows = np.flatnonzero((parts == "train") & (listing.labels == label))
                take = min(max(1, round(len(rows) * fraction)), len(rows) - 1)
                ranks = np.array([_rank(seed, part, listing.digests[row]) for row in rows])
                if take > 0:
                    parts[rows[ranks <= np.sort(ranks)[take - 1]]] = part
    for index, name in enumerate(listing.classes):
        if not ((parts == "train") & (listing.labels == index)).any():
            raise UserError(f"--data: class '{name}' has no training picture that can be read. See audit.json.")
    for part in SPLITS:
        if not (parts == part).any():
            raise UserError(
                f"--data: no picture is left for the {part} split; add pictures. Received: {len(parts)} in all"
            )
    digest = hashlib.sha256(repr([*zip(listing.digests, listing.labels.tolist(), parts)]).encode())
    splits = {part: _split(listing, pictures, np.flatnonzero(parts == part)) for part in SPLITS}
    return Splits(
        name=listing.name,
        task=listing.task,
        classes=listing.classes,
        findings=listing.findings,
        digest=digest.hexdigest()[:16],
        **splits,
    )


def _positives(labels: np.ndarray, classes: int) -> np.ndarray:
    """bool [N, C]: which classes an example has, from labels of either form."""
    return labels > 0 if labels.ndim == 2 else labels[:, np.newaxis] == np.arange(classes)


def _rank(seed: int, part: str, digest: str) -> str:
    return hashlib.sha256(f"{seed}/{part}/{digest}".encode()).hexdigest()


def _split(listing: Listing, pictures: np.ndarray | None, rows: np.ndarray) -> Split:
    return Split(
        ids=listing.ids[rows],
        labels=listing.labels[rows],
        read=lambda index: listing.read(int(rows[index])),
        pictures=None if pictures is None else lambda indices: pictures[rows[indices]],
    )
