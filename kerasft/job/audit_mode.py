"""`--mode=audit`: says what is wrong with the data, and trains nothing.

The images of all splits are judged together, test included: nothing is learned from them that a score depends on.
"""

import hashlib
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from kerasft import report
from kerasft.console import console
from kerasft.data import pipeline, sources
from kerasft.data.listing import SPLITS, Listing
from kerasft.data.splits import Split, Splits
from kerasft.job import image_reader
from kerasft.job.audited_splits import as_audited, audit_and_split
from kerasft.job.backbone import choose_backbone
from kerasft.job.build_network import resolve_settings
from kerasft.probes import probe_findings
from kerasft.settings.config import Config
from kerasft.storage import audit_file, disk_cache, run_folder, run_lock

# What is written on the way; removed again.
SCRATCH = ".audit"


@pipeline.user_errors()
def audit(config: Config) -> Path:
    """Audits the data, and writes `audit.json`, `suspects.csv` and `audit.html` into the run folder, which is returned.

    Raises:
        UserError: what a run itself would refuse before it trains.
    """
    listing = sources.load(config)
    folder, finished = run_folder.find(config, listing.name)
    audit_file.refuse_own_list(config.exclude, folder)
    with run_lock.locked(folder):
        if finished is None:
            run_folder.write_settings(config, folder)
        with run_folder.scratch(folder, SCRATCH) as place:
            with audit_file.published_on_error(place, folder):
                size, judged = _audit(config, listing, place)
            audit_file.publish(place, folder)
        by_path = image_reader.make_reader(as_audited(config, listing), size)
        page = report.write_audit(folder, listing.name, listing.task, by_path, judged=judged)
    console.say(f"audited: {folder / audit_file.FILE_NAME}, {audit_file.SUSPECTS_NAME} and {page.name}")
    return folder


def _audit(config: Config, listing: Listing, folder: Path) -> tuple[int, bool]:
    """Writes the findings into a folder. Returns the side of the images in pixels, and whether labels were judged."""
    keras.utils.set_random_seed(config.seed)
    # Nothing is trained, so no precision is measured.
    config, choice, audited = choose_backbone(replace(config, precision="float32"), listing, folder)
    network, resolved = resolve_settings(config, listing, folder, choice)
    framed = replace(listing, framing=resolved.framing or "crop")
    is_done = audited is not None and audited.size == network.size
    data = audited.take() if is_done else audit_and_split(config, framed, network.size, folder)
    if not network.pretrained:
        console.say("suspects: labels are not judged, because the weights are not pretrained (--weights)")
    cache = disk_cache.from_config(config, folder)
    pool = _pool(data)
    audit_file.add(folder, probe_findings.examine(network, pool, data.classes, config.seed, cache))
    return network.size, probe_findings.can_judge(network, len(pool))


def _pool(data: Splits) -> Split:
    """Returns all images as one split, for the judgement only."""
    parts = [getattr(data, name) for name in SPLITS]
    starts = np.cumsum([0, *map(len, parts)])

    def images(rows: np.ndarray) -> np.ndarray:
        places = np.searchsorted(starts, rows, "right") - 1
        found = np.empty((len(rows), *parts[0].images(np.array([0])).shape[1:]), np.uint8)
        for place in np.unique(places):
            chosen = places == place
            found[chosen] = parts[place].images(np.asarray(rows)[chosen] - starts[place])
        return found

    def read(row: int) -> bytes:
        place = int(np.searchsorted(starts, row, "right")) - 1
        return parts[place].read(int(row - starts[place]))

    return Split(
        ids=np.concatenate([part.ids for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        read=read,
        images=None if any(part.images is None for part in parts) else images,
        digest=hashlib.sha256("".join(part.digest for part in parts).encode()).hexdigest(),
        framing=data.train.framing,
        groups=None if data.train.groups is None else np.concatenate([part.groups for part in parts]),
    )
