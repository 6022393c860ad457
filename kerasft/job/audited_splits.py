"""The audit of a run: decodes every image once, reports what is wrong, and makes the splits."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from kerasft.console import console, stderr_filter, wording
from kerasft.data import audit, findings, splits, unlabelled
from kerasft.data.listing import SPLITS, Finding, Listing
from kerasft.job.data_changes import refuse_changes
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.storage import audit_file, checkpoints, disk_cache, image_cache, manifest


def as_audited(config: Config, listing: Listing) -> Listing:
    """The listing with the framing of the audit, by which copies are found and so the splits are made.

    What `--framing=auto` chooses, it chooses on training images. So the audit comes first, and frames by `crop`.
    """
    return replace(listing, framing="crop" if config.framing == "auto" else config.framing)


def audit_and_split(config: Config, listing: Listing, size: int, folder: Path) -> splits.Splits:
    """Decodes every image, writes `audit.json`, prints the findings, and splits the images that can be used.

    Args:
        size: side of the decoded images, in pixels.

    Raises:
        UserError: a file cannot be used and `--bad_images=fail` is set, too few files can be used, or `--exclude` names the
            list that is written here.
    """
    audit_file.refuse_own_list(config.exclude, folder)
    names = wording.classes(listing.task, listing.classes)
    console.say(f"{listing.name}: {len(listing.ids)} files, {listing.task}, {names}, {size}x{size} pixels")
    checked, images = decode(config, listing, size, folder)
    resumes, learned = checkpoints.exist(folder), []
    if not resumes:
        manifest.write(folder, listing, checked)
    further, further_images = None, None
    if listing.unlabelled is not None:
        further, further_images = _audit_unlabelled(config, listing, size, folder, resumes=resumes)
    if resumes:
        read = [one for one in (checked, further) if one is not None]
        digests = {name: digest for one in read for name, digest in zip(one.ids.tolist(), one.digests.tolist())}
        refuse_changes(config, listing, folder, digests)
        learned = audit_file.read_learned(folder)
    found = [*checked.findings, *(further.findings if further else ())]
    findings.show(tuple(found))
    audit_file.write(folder, len(listing.ids), {}, [*found, *learned])
    refuse_bad_images(config, found, f" (see {folder / audit_file.FILE_NAME})")
    data = splits.make_splits(
        checked, images, config.val_fraction, config.test_fraction, config.seed, config.per_class_limit
    )
    if further:
        data = unlabelled.with_unlabelled(data, checked, further, further_images, size)
    shown = set(found)
    findings.show(tuple(finding for finding in data.findings if finding not in shown))
    audit_file.write(folder, len(listing.ids), data.counts(), [*data.findings, *learned])
    _summarise(data)
    return data


def refuse_bad_images(config: Config, found: Iterable[Finding], where: str = "") -> None:
    """Refuses data with files that cannot be used, under `--bad_images=fail`.

    Args:
        found: the findings.
        where: all of them are listed, in brackets.

    Raises:
        UserError: there are such files.
    """
    bad = [finding.path for finding in found if finding.verdict == "reject" and finding.kind != "excluded"]
    if bad and config.bad_images == "fail":
        rule = f"{len(bad)} files or folders cannot be used, such as {bad[0]}{where}"
        raise UserError(f"--bad_images: {rule}. Received: 'fail'")


def _audit_unlabelled(
    config: Config, listing: Listing, size: int, folder: Path, *, resumes: bool
) -> tuple[Listing, Callable[[np.ndarray], np.ndarray] | None]:
    """Decodes the images of `--unlabelled`, and gives what `audit.audit` does; in a new run it writes their manifest.

    Raises:
        UserError: none can be used.
    """
    given = replace(listing.unlabelled, framing=listing.framing)
    checked, images = decode(config, given, size, folder, inspected=False)
    if not len(checked.ids):
        findings.show(checked.findings)
        rule = f"none of {wording.count(len(given.ids), 'file')} can be used"
        raise UserError(f"--unlabelled: {rule}. Received: {config.unlabelled!r}")
    if not resumes:
        manifest.write(folder, given, checked, manifest.UNLABELLED_NAME)
    return checked, images


def decode(
    config: Config, listing: Listing, size: int, folder: Path, *, inspected: bool = True
) -> tuple[Listing, Callable[[np.ndarray], np.ndarray] | None]:
    """Decodes the images of a listing that are stored nowhere yet, and stores them; as `audit.audit`."""
    place = image_cache.open_pixel_store(listing, size, disk_cache.from_config(config, folder))
    with place as pixel_store, console.progress("audit", len(listing.ids)) as advance, stderr_filter.without_notices():
        return audit.audit(listing, size, advance, pixel_store, inspected=inspected)


def _summarise(data: splits.Splits) -> None:
    kinds = Counter(finding.kind.replace("_", " ") for finding in data.findings)
    found = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()) or "nothing amiss"
    sizes = ", ".join(f"{len(getattr(data, part))} {part}" for part in SPLITS)
    console.say(f"audit: {sizes}; {found}")
    if data.unlabelled is not None:
        console.say(f"unlabelled: {wording.count(len(data.unlabelled), 'image')}")
    for finding in data.findings:
        if finding.kind == "missing_class":
            console.say(f"WARNING: {finding.path} has {finding.detail}")
    if leaks := sum(finding.kind == "leak" for finding in data.findings):
        rule = (
            "nearly the same image, or the same group, on two sides of a split makes scores look better than they are"
        )
        console.say(
            f"WARNING: {wording.count(leaks, 'leak')}: {rule}. See audit.json; --exclude=FILE leaves images out"
        )
