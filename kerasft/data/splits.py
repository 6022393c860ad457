"""Splits: the examples of train, val and test, carved where the source does not say."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from kerasft.data import copies
from kerasft.data.listing import SPLITS, Finding, Listing
from kerasft.settings.errors import UserError

NAMED = 10  # classes that a split lacks, in one line
_SILENT = {"val": "what is kept is chosen without", "test": "the test score says nothing of"}


@dataclass(frozen=True)
class Split:
    """The examples of one split.

    Attributes:
        ids: str [N].
        labels: int32 [N], float32 [N, C] of 0 and 1, or float32 [N, D], by task.
        read: index to encoded bytes.
        pictures: index array [B] to decoded uint8 [B, S, S, 3]; None where they did not fit into memory.
        digest: of all files' bytes, in order.
    """

    ids: np.ndarray
    labels: np.ndarray
    read: Callable[[int], bytes]
    pictures: Callable[[np.ndarray], np.ndarray] | None
    digest: str = ""

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
        excluded: how many pictures of val and of test are left out, for they are copies of pictures in a split before.
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


def make_splits(
    listing: Listing,
    pictures: np.ndarray | None,
    val_fraction: float,
    test_fraction: float,
    seed: int,
    per_class_limit: int | None = None,
) -> Splits:
    """Gives every example a split: the source's own where it has it, else a stratified, seeded share of train.

    Strata are the classes; under multi-label all classes of an example count, the rarest first (iterative
    stratification: Sechidis et al., ECML 2011); under regression they are quantiles of the first target.

    Args:
        listing: audited examples.
        pictures: index array [B] of the listing to uint8 [B, S, S, 3], or None.
        val_fraction, test_fraction: share of each stratum's training pictures for a split that is missing.
        seed: chooses the share; an example's rank depends on the seed and its bytes only, so that adding a
            file moves few others, and equal files stay together.
        per_class_limit: at most so many training pictures of a class, those of the lowest rank; the others are in
            no split. Not for regression.

    A picture of val or test that has a copy in a split before it is in none: what is measured there must be new.

    Raises:
        UserError: a class without a readable training picture, a target that is the same in all of them, or a split
            that comes out empty.
    """
    parts = listing.parts.copy()
    parts[parts == ""] = "train"
    given = set(parts)
    if not given & {"val", "test"} and val_fraction + test_fraction >= 1:
        rule = "together with --test_fraction must be below 1, so that pictures are left to learn from"
        raise UserError(f"--val_fraction: {rule}. Received: {val_fraction} and {test_fraction}")
    _refuse_empty(parts, "train")
    # The test share is of all that is there; val is of what then remains.
    for part, fraction in (("test", test_fraction), ("val", val_fraction)):
        if part not in given:
            rows = np.flatnonzero(parts == "train")
            digests, group = _grouped(listing, rows)
            strata = _strata(listing, rows)
            members = np.zeros((len(digests), strata.shape[1]), bool)
            np.logical_or.at(members, group, strata)
            counts = members.sum(0)
            # At least one of each is left for train, and one taken where there are two.
            wanted = np.minimum(np.maximum(1, np.round(counts * fraction)), counts - 1)
            taken = _chosen(members, _ranks(seed, part, digests), wanted, counts - 1)
            parts[rows[taken[group]]] = part
    known = copies.seen(parts, listing.pixels)
    excluded = {part: int((known & (parts == part)).sum()) for part in ("val", "test")}
    parts[known] = ""
    for part, count in excluded.items():
        if count and not (parts == part).any():
            rule = f"all {count} {part} pictures are copies of pictures in a split before it (train, val, test)"
            raise UserError(
                f"--data: {rule}; give others, or leave {part} out, and a share of train is taken. See audit.json."
            )
    over = 0
    if per_class_limit is not None:
        rows = np.flatnonzero(parts == "train")
        members = _strata(listing, rows)
        most = np.full(members.shape[1], per_class_limit)
        kept = _chosen(members, _ranks(seed, "limit", listing.digests[rows]), most, most)
        parts[rows[~kept]] = ""
        over = int((~kept).sum())
    for part in SPLITS:
        _refuse_empty(parts, part)
    findings = [*_check_train(listing, listing.labels[parts == "train"]), *_missing(listing, parts)]
    if over:
        findings.append(Finding("train/", "over_limit", "warn", f"{over} pictures over --per_class_limit are not used"))
    digest = hashlib.sha256(repr([*zip(listing.digests, listing.labels.tolist(), parts)]).encode())
    splits = {part: _split(listing, pictures, np.flatnonzero(parts == part)) for part in SPLITS}
    return Splits(
        name=listing.name,
        task=listing.task,
        classes=listing.classes,
        findings=(*listing.findings, *findings),
        digest=digest.hexdigest()[:16],
        excluded=excluded,
        **splits,
    )


def example_weights(split: Split, classes: tuple[str, ...], task: str) -> np.ndarray:
    """Weights under which every class that occurs counts the same: N / (C * n), n the examples of the class.

    Under multi-label, each class is a choice of two, with positives and negatives the same in all; an example has the
    mean over the classes. (King and Zeng, Political Analysis 2001; scikit-learn's `class_weight="balanced"`.)

    Returns:
        float32 [N], with mean 1.

    Raises:
        UserError: under regression.
    """
    if task == "regression":
        raise UserError("--class_weights: is for single_label and multi_label. Received: 'balanced'")
    positive = _positives(split.labels, len(classes))
    counts, total = positive.sum(0), len(split)
    if task == "single_label":
        return np.float32(total / ((counts > 0).sum() * np.maximum(counts, 1)))[split.labels]
    both = (counts > 0) & (counts < total)  # a class without one of the two has nothing to balance
    counts = np.where(both, counts, 1)
    weights = np.where(positive, total / (2 * counts), total / (2 * (total - counts)))
    return np.where(both, weights, 1).mean(1).astype(np.float32)


def _refuse_empty(parts: np.ndarray, part: str) -> None:
    if not (parts == part).any():
        rule = f"no picture is left for the {part} split; a class needs at least three different pictures, one for each"
        raise UserError(f"--data: {rule} of train, val and test. Received: {len(parts)} in all")


def _check_train(listing: Listing, labels: np.ndarray) -> list[Finding]:
    """Findings about classes that nothing can be learnt of; raises UserError where that stops the run."""
    if listing.task == "regression":
        for name, column in zip(listing.classes, labels.T):
            if column.min() == column.max():
                raise UserError(f"--data: target '{name}' is {column[0]:g} in all training pictures.")
        return []
    missing = [name for name, has in zip(listing.classes, _positives(labels, len(listing.classes)).any(0)) if not has]
    if missing and listing.task == "single_label":
        raise UserError(f"--data: class '{missing[0]}' has no training picture that can be read. See audit.json.")
    return [Finding(f"class '{name}'", "no_positive", "warn", "no training picture has it") for name in missing]


def _missing(listing: Listing, parts: np.ndarray) -> list[Finding]:
    """A warning for each of val and test that lacks classes: nothing is measured there of those."""
    found = []
    for part in SPLITS[1:] if listing.task != "regression" else ():
        has = _positives(listing.labels[parts == part], len(listing.classes)).any(0)
        names = [f"'{name}'" for name, there in zip(listing.classes, has) if not there]
        if names:
            shown = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
            word, them = ("class", "it") if len(names) == 1 else ("classes", "them")
            detail = f"no picture of {word} {shown}: {_SILENT[part]} {them}"
            found.append(Finding(f"{part}/", "missing_class", "warn", detail))
    return found


def _grouped(listing: Listing, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One of the digests of each group of copies among the rows, and each row's group: they go the same way."""
    _, firsts, group = np.unique(listing.pixels[rows], return_index=True, return_inverse=True)
    least = listing.digests[rows][firsts]
    for place, digest in zip(group, listing.digests[rows]):
        least[place] = min(least[place], digest)
    return least, group


def _strata(listing: Listing, rows: np.ndarray) -> np.ndarray:
    """bool [len(rows), strata]: an example is in at least one."""
    labels = listing.labels[rows]
    if listing.task == "regression":
        bins = int(np.clip(len(rows) // 10, 1, 10))
        edges = np.quantile(labels[:, 0], np.arange(1, bins) / bins)
        return _positives(np.searchsorted(edges, labels[:, 0]), bins)
    positive = _positives(labels, len(listing.classes))
    return np.column_stack([positive, ~positive.any(1)])  # those of no class are a stratum of their own


def _chosen(members: np.ndarray, ranks: np.ndarray, wanted: np.ndarray, most: np.ndarray) -> np.ndarray:
    """bool [N]: examples by falling rarity of their rarest stratum, then rank, while that one wants more.

    Args:
        members: bool [N, strata].
        ranks: str [N].
        wanted: [strata], how many to take for a stratum's own sake.
        most: [strata], how many to take at most, other strata's among them.
    """
    counts = members.sum(0)
    rarity = np.where(members, counts, len(members) + 1)
    rarest = rarity.argmin(1)
    taken, chosen = np.zeros(len(counts), int), np.zeros(len(members), bool)
    for row in np.lexsort((ranks, rarest, rarity.min(1))):
        if taken[rarest[row]] < wanted[rarest[row]] and (taken < most)[members[row]].all():
            taken += members[row]
            chosen[row] = True
    return chosen


def _ranks(seed: int, part: str, digests: np.ndarray) -> np.ndarray:
    return np.array([hashlib.sha256(f"{seed}/{part}/{digest}".encode()).hexdigest() for digest in digests])


def _positives(labels: np.ndarray, classes: int) -> np.ndarray:
    """bool [N, C]: which classes an example has, from labels of either form."""
    return labels > 0 if labels.ndim == 2 else labels[:, np.newaxis] == np.arange(classes)


def _split(listing: Listing, pictures: Callable[[np.ndarray], np.ndarray] | None, rows: np.ndarray) -> Split:
    return Split(
        ids=listing.ids[rows],
        labels=listing.labels[rows],
        read=lambda index: listing.read(int(rows[index])),
        pictures=None if pictures is None else lambda indices: pictures(rows[indices]),
        digest=hashlib.sha256("".join(listing.digests[rows]).encode()).hexdigest(),
    )
