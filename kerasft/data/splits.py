"""Splits: the examples of train, val and test. Where the source names none, they are drawn from train."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from kerasft.data import duplicates, groups, split_checks, stratification
from kerasft.data.listing import SPLITS, Finding, Listing
from kerasft.settings.errors import UserError


@dataclass(frozen=True)
class Split:
    """The examples of one split.

    Attributes:
        ids: str [N].
        labels: int32 [N], float32 [N, C] of 0 and 1, or float32 [N, D], by task; -1, or a row of NaN, where there is none.
        read: index to encoded bytes.
        images: index array [B] to decoded images, uint8 [B, S, S, 3]; None where they are stored nowhere.
        digest: SHA-256 of the digests of all files, in order.
        framing: how the images are made square, a name of `framing.FRAMINGS`.
        groups: int [N], equal for images that no fold may part, over all splits: copies, near duplicates, and images of one
            group. None where every image is one of its own.
    """

    ids: np.ndarray
    labels: np.ndarray
    read: Callable[[int], bytes]
    images: Callable[[np.ndarray], np.ndarray] | None
    digest: str = ""
    framing: str = "crop"
    groups: np.ndarray | None = None

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
        digest: 16 hex digits of the bytes, labels and splits of all files.
        excluded: by split, the images that are left out because an earlier split holds the same image.
        unlabelled: the images of `--unlabelled` that are trained on (`data/unlabelled.py`), or None.
    """

    name: str
    task: str
    train: Split
    val: Split
    test: Split
    classes: tuple[str, ...]
    findings: tuple[Finding, ...]
    digest: str
    excluded: dict[str, int] = field(default_factory=lambda: {"val": 0, "test": 0})
    unlabelled: Split | None = None

    def counts(self) -> dict[str, dict[str, int]]:
        """Counts the examples by split and class name; under regression all of a split as `examples`."""
        counts = {}
        for name in SPLITS:
            split = getattr(self, name)
            if self.task == "regression":
                counts[name] = {"examples": len(split)}
            else:
                positives = stratification.to_multi_hot(split.labels, len(self.classes)).sum(0)
                counts[name] = {label: int(count) for label, count in zip(self.classes, positives)}
        return counts


def make_splits(
    listing: Listing,
    images: Callable[[np.ndarray], np.ndarray] | None,
    val_fraction: float,
    test_fraction: float,
    seed: int,
    per_class_limit: int | None = None,
) -> Splits:
    """Assigns every example to a split: that of the source, or else a stratified, seeded fraction of train.

    Strata are the classes. Under multi-label, an example counts in all its classes, and the rarest class is served first
    (iterative stratification: Sechidis et al., ECML 2011). Under regression, strata are quantiles of the first target.

    An image of val or test is left out where an earlier split holds the same image: a score must be measured on new ones.

    Images of one group (`--group_column`, `--group_pattern`), and near duplicates, go into one split.

    Args:
        listing: audited examples.
        images: index array [B] of the listing to uint8 [B, S, S, 3], or None.
        val_fraction, test_fraction: fraction of the training examples of each stratum for a split that the source lacks.
        seed: chooses that fraction. The rank of an example depends on the seed and on its bytes only, so adding a file
            moves few others, and equal files stay together.
        per_class_limit: at most so many training images of a class, those of the lowest rank. The others are in no
            split. Not for regression.

    Raises:
        UserError: a class without a readable training image, a target that is the same in all of them, or a split that
            comes out empty.
    """
    split_names = listing.split_names.copy()
    split_names[split_names == ""] = "train"
    # A split that the source names, and of which nothing is left, must not be drawn from train unsaid.
    source_splits = {*split_names, *listing.named_splits}
    if not source_splits & {"val", "test"} and val_fraction + test_fraction >= 1:
        rule = "together with --test_fraction must be below 1, so that images are left for training"
        raise UserError(f"--val_fraction: {rule}. Received: {val_fraction} and {test_fraction}")
    for name in SPLITS:
        if name == "train" or name in source_splits:
            split_checks.refuse_empty(listing, split_names, name, source_splits)
    # The test fraction is of all examples; the val fraction is of those that remain.
    for name, fraction in (("test", test_fraction), ("val", val_fraction)):
        if name not in source_splits:
            rows = np.flatnonzero(split_names == "train")
            split_names[rows[stratification.sample_fraction(listing, rows, fraction, seed, name)]] = name
    excluded = _exclude_duplicates(split_names, listing.pixel_digests)
    known = duplicates.findings_of_draw(listing, split_names)
    over_limit = 0
    if per_class_limit is not None:
        rows = np.flatnonzero(split_names == "train")
        members = stratification.make_strata(listing, rows)
        limits = np.full(members.shape[1], per_class_limit)
        kept = stratification.sample_strata(
            members, stratification.rank(seed, "limit", listing.digests[rows]), limits, limits
        )
        split_names[rows[~kept]] = ""
        over_limit = int((~kept).sum())
    for name in SPLITS:
        split_checks.refuse_empty(listing, split_names, name, source_splits)
    findings = split_checks.check_train(listing, listing.labels[split_names == "train"])
    findings += split_checks.find_missing_classes(listing, split_names)
    if over_limit:
        detail = f"{over_limit} images over --per_class_limit are not used"
        findings.append(Finding("train/", "over_limit", "warn", detail))
    digest = hashlib.sha256(repr([*zip(listing.digests, listing.labels.tolist(), split_names)]).encode())
    # Folds keep together what splits do.
    units = groups.connect(listing, np.arange(len(listing.ids)))
    units = None if len(np.unique(units)) == len(units) else units
    splits = {name: make_split(listing, images, np.flatnonzero(split_names == name), units) for name in SPLITS}
    return Splits(
        name=listing.name,
        task=listing.task,
        classes=listing.classes,
        findings=(*known, *findings),
        digest=digest.hexdigest()[:16],
        excluded=excluded,
        **splits,
    )


def _exclude_duplicates(split_names: np.ndarray, pixel_digests: np.ndarray) -> dict[str, int]:
    """Takes duplicates of earlier splits out of val and test, in place; returns how many, by split."""
    duplicated = duplicates.has_earlier_duplicate(split_names, pixel_digests)
    excluded = {name: int((duplicated & (split_names == name)).sum()) for name in ("val", "test")}
    split_names[duplicated] = ""
    for name, count in excluded.items():
        if count and not (split_names == name).any():
            rule = f"all {count} {name} images are the same as images of an earlier split (train, val, test)"
            raise UserError(
                f"--data: {rule}; add other images, or leave {name} out: a fraction of train is then taken. See audit.json."
            )
    return excluded


def take(split: Split, rows: np.ndarray) -> Split:
    """Returns a split of some rows of another, int [B], without a digest."""
    images = None if split.images is None else lambda places: split.images(rows[places])
    return replace(
        split,
        ids=split.ids[rows],
        labels=split.labels[rows],
        read=lambda index: split.read(int(rows[index])),
        images=images,
        digest="",
        groups=None if split.groups is None else split.groups[rows],
    )


def example_weights(split: Split, classes: tuple[str, ...], task: str) -> np.ndarray:
    """Returns weights under which every class that occurs counts the same: N / (C * n), with n examples of the class.

    Under multi-label, positives and negatives of each class count the same, and the weight of an example is its mean over
    the classes. (King and Zeng, Political Analysis 2001; scikit-learn's `class_weight="balanced"`.)

    Returns:
        float32 [N], with mean 1.

    Raises:
        UserError: under regression.
    """
    if task == "regression":
        raise UserError("--class_weights: is for single_label and multi_label. Received: 'balanced'")
    positive = stratification.to_multi_hot(split.labels, len(classes))
    counts, total = positive.sum(0), len(split)
    if task == "single_label":
        return np.float32(total / ((counts > 0).sum() * np.maximum(counts, 1)))[split.labels]
    # A class that has only positives or only negatives has nothing to balance.
    both = (counts > 0) & (counts < total)
    counts = np.where(both, counts, 1)
    weights = np.where(positive, total / (2 * counts), total / (2 * (total - counts)))
    return np.where(both, weights, 1).mean(1).astype(np.float32)


def concatenate(first: Split, second: Split) -> Split:
    """Returns one split of the examples of two, in order, which must be framed alike."""
    count = len(first)

    def images(rows: np.ndarray) -> np.ndarray:
        inside = rows < count
        one, other = first.images(rows[inside]), second.images(rows[~inside] - count)
        found = np.empty((len(rows), *one.shape[1:]), np.uint8)
        found[inside], found[~inside] = one, other
        return found

    return Split(
        ids=np.concatenate([first.ids, second.ids]),
        labels=np.concatenate([first.labels, second.labels]),
        read=lambda index: first.read(index) if index < count else second.read(index - count),
        images=None if first.images is None or second.images is None else images,
        digest=hashlib.sha256(f"{first.digest} {second.digest}".encode()).hexdigest(),
        framing=first.framing,
    )


def make_split(
    listing: Listing,
    images: Callable[[np.ndarray], np.ndarray] | None,
    rows: np.ndarray,
    units: np.ndarray | None = None,
) -> Split:
    """Returns a split of some rows, int [B], of an audited listing.

    Args:
        images: as in `make_splits`.
        units: int [N] of the listing, the `groups` of the split.
    """
    return Split(
        ids=listing.ids[rows],
        labels=listing.labels[rows],
        read=lambda index: listing.read(int(rows[index])),
        images=None if images is None else lambda indices: images(rows[indices]),
        digest=hashlib.sha256("".join(listing.digests[rows]).encode()).hexdigest(),
        framing=listing.framing,
        groups=None if units is None else units[rows],
    )
