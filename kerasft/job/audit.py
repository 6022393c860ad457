"""The audit of a run: decodes every image once, reports what is wrong, and makes the splits."""

from collections import Counter
from pathlib import Path

from kerasft.console import console, stderr_filter, wording
from kerasft.data import audit, findings, splits
from kerasft.data.listing import SPLITS, Listing
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.storage import audit_file, checkpoints, disk_cache, image_cache, manifest


def audit_and_split(config: Config, listing: Listing, size: int, folder: Path) -> splits.Splits:
    """Decodes every image, writes `audit.json`, prints the findings, and splits the images that can be used.

    Args:
        size: side of the decoded images, in pixels.

    Raises:
        UserError: a file cannot be used and `--bad_images=fail` is set, or too few files can be used.
    """
    names = f"{len(listing.classes)} {'targets' if listing.task == 'regression' else 'classes'}"
    console.say(f"{listing.name}: {len(listing.ids)} files, {listing.task}, {names}, {size}x{size} pixels")
    place = image_cache.open_pixel_store(listing, size, disk_cache.from_config(config, folder))
    with place as pixel_store, console.progress("audit", len(listing.ids)) as advance, stderr_filter.without_notices():
        checked, images = audit.audit(listing, size, advance, pixel_store)
    resumes, learned = any((folder / name).exists() for name in checkpoints.FILE_NAMES), []
    if resumes:
        refuse_changes(config, listing, folder)
        learned = audit_file.read_learned(folder)
    else:
        manifest.write(folder, listing, checked)
    findings.show(checked.findings)
    bad = [finding for finding in checked.findings if finding.verdict == "reject" and finding.kind != "excluded"]
    audit_file.write(folder, len(listing.ids), {}, [*checked.findings, *learned])
    if bad and config.bad_images == "fail":
        raise UserError(
            f"--bad_images: {len(bad)} files or folders cannot be used (see {folder / 'audit.json'}). Received: 'fail'"
        )
    data = splits.make_splits(
        checked, images, config.val_fraction, config.test_fraction, config.seed, config.per_class_limit
    )
    findings.show(data.findings[len(checked.findings) :])
    audit_file.write(folder, len(listing.ids), data.counts(), [*data.findings, *learned])
    _summarise(data)
    return data


def _summarise(data: splits.Splits) -> None:
    kinds = Counter(finding.kind.replace("_", " ") for finding in data.findings)
    found = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()) or "nothing amiss"
    sizes = ", ".join(f"{len(getattr(data, part))} {part}" for part in SPLITS)
    console.say(f"audit: {sizes}; {found}")
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


def refuse_changes(config: Config, listing: Listing, folder: Path) -> None:
    """Raises UserError if the data have changed since the run began. Embedded and generated data cannot change."""
    if listing.name in ("digits", "generated") and config.data.startswith(listing.name):
        return
    if changed := manifest.describe_changes(folder, listing):
        rule = f"has changed since the run in '{folder}' began: {changed}; --noresume runs it again on the new data"
        raise UserError(f"--data: {rule}, another --run_dir keeps both. Received: {config.data!r}")
