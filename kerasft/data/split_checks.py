"""What is wrong with splits: those without images, classes that they lack, targets that never change."""

import numpy as np

from kerasft.console import wording
from kerasft.data import groups, stratification
from kerasft.data.listing import SPLITS, Finding, Listing
from kerasft.settings.errors import UserError

# A message names at most so many of the classes that a split lacks.
MAX_CLASSES_IN_MESSAGE = 10
_NUMBERS = {2: "two", 3: "three"}
# What it means where a split lacks classes.
_MISSING_CLASS_EFFECTS = {"val": "nothing is chosen by", "test": "the test score does not measure"}


def refuse_empty(listing: Listing, split_names: np.ndarray, name: str, source_splits: set[str]) -> None:
    """Refuses a split without images, and says why it has none.

    Args:
        listing: audited examples.
        split_names: str [N], the split of each example.
        name: of the split.
        source_splits: the splits that the source names; the others are taken from train.

    Raises:
        UserError: no example is in the split.
    """
    if (split_names == name).any():
        return
    count = len(split_names)
    received = f"Received: {count} in all"
    if name == "train":
        why = ": all that can be used are in val or test" if count else ""
        raise UserError(f"--data: no image is left for the train split{why}{_say_left_out(listing)}. {received}")
    if name in source_splits:
        ways = "add images to it, or leave it out (its folder, its rows, or for tfds its name in --splits)"
        rule = f"the source names the {name} split, and no image of it can be used{_say_left_out(listing)}"
        raise UserError(f"--data: {rule}; {ways}: a fraction of train is then taken. {received}")
    parts = [part for part in SPLITS if part == "train" or part not in source_splits]
    who = (
        "at least {} different images are needed"
        if listing.task == "regression"
        else "a class needs at least {} different images"
    )
    need = f"{who.format(_NUMBERS[len(parts)])}, one for each of {', '.join(parts[:-1])} and {parts[-1]}"
    units = len(np.unique(groups.connect(listing, np.arange(count))))
    if units < count:
        kinds = (
            "copies and near duplicates"
            if listing.groups is None
            else "copies, near duplicates and images of one group"
        )
        need += f"; {kinds} count as one, so that there are only {units}"
    raise UserError(f"--data: no image is left for the {name} split; {need}{_say_left_out(listing)}. {received}")


def _say_left_out(listing: Listing) -> str:
    """How many files of a listing are not used, and why, as the end of a sentence; empty for none."""
    rejected = [finding.kind for finding in listing.findings if finding.verdict == "reject"]
    excluded = rejected.count("excluded")
    parts = [f"{wording.count(len(rejected) - excluded, 'file')} cannot be used"] if len(rejected) > excluded else []
    parts += [f"--exclude names {wording.count(excluded, 'file')}"] if excluded else []
    return f"; in all, {' and '.join(parts)} (see audit.json)" if parts else ""


def check_train(listing: Listing, labels: np.ndarray) -> list[Finding]:
    """Returns findings about classes without training images.

    Raises:
        UserError: training is not possible: a constant target, or a class of `single_label` without training images.
    """
    if listing.task == "regression":
        for name, column in zip(listing.classes, labels.T):
            if column.min() == column.max():
                raise UserError(f"--data: target '{name}' is {column[0]:g} in all training images.")
        return []
    missing = [
        name
        for name, has in zip(listing.classes, stratification.to_multi_hot(labels, len(listing.classes)).any(0))
        if not has
    ]
    if missing and listing.task == "single_label":
        raise UserError(
            f"--data: a class needs a training image that can be used{_say_left_out(listing)}. Received: class '{missing[0]}'"
        )
    return [Finding(f"class '{name}'", "no_positive", "warn", "no training image has it") for name in missing]


def find_missing_classes(listing: Listing, split_names: np.ndarray) -> list[Finding]:
    """Returns a warning for each of val and test that lacks classes."""
    findings = []
    for split in SPLITS[1:] if listing.task != "regression" else ():
        has = stratification.to_multi_hot(listing.labels[split_names == split], len(listing.classes)).any(0)
        missing = [f"'{name}'" for name, there in zip(listing.classes, has) if not there]
        if missing:
            more = len(missing) - MAX_CLASSES_IN_MESSAGE
            names = ", ".join(missing[:MAX_CLASSES_IN_MESSAGE]) + (f" and {more} more" if more > 0 else "")
            word, them = ("class", "it") if len(missing) == 1 else ("classes", "them")
            detail = f"no image of {word} {names}: {_MISSING_CLASS_EFFECTS[split]} {them}"
            findings.append(Finding(f"{split}/", "missing_class", "warn", detail))
    return findings
