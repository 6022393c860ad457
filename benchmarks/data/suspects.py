"""The data doctor: flipped labels, planted copies, false alarms, and what it costs in processor time.

Flips 5 % of the labels by a seed and says how many of them stand in the first tenth of all images, ordered by their score, and what the
flagged ones hold. Plants copies of training images in the test folder, of each kind, and says how many are found. Lists what is found
in the sets as they are. Puts images of other sets into a set. Measures the processor time of the audit without and with the inspection, of the features, and of the judgement.

    python benchmarks/data/suspects.py --shared=../shared [--sets=flowers5,hands10] [--parts=flips,copies,alarms,outliers,cost]
"""

import argparse
import io
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from kerasft.data import audit, pipeline, sources, splits
from kerasft.data.listing import Listing
from kerasft.evaluation import scoring
from kerasft.networks import network as networks
from kerasft.probes import head_statistics, held_out, suspects
from kerasft.settings.config import Config

WEIGHTS = "mobilenet_0.25_224_no_top.h5"
FLIPPED = 0.05
SEEDS = range(5)
# Copies of each kind.
COPIES = 40
# Images of each other set that are put into a set.
FOREIGN = 25


def _encoded(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def _cropped(image: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    width, height = image.size
    return image.crop((int(left * width), int(top * height), int(right * width), int(bottom * height)))


KINDS = {
    "re-encoded (quality 40)": lambda image: _encoded(image, 40),
    "resized (0.5)": lambda image: image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS),
    "resized (0.5) and re-encoded (60)": lambda image: _encoded(
        image.resize((image.width // 2, image.height // 2)), 60
    ),
    "cropped by 3 % at each side": lambda image: _cropped(image, 0.03, 0.03, 0.97, 0.97),
    "cropped by 5 %": lambda image: _cropped(image, 0.05, 0.05, 0.95, 0.95),
    "cropped by 8 %": lambda image: _cropped(image, 0.08, 0.08, 0.92, 0.92),
    "cropped by 5 % at the left": lambda image: _cropped(image, 0.05, 0, 1, 1),
    "cropped by 8 % at a corner": lambda image: _cropped(image, 0, 0, 0.92, 0.92),
    "15 % brighter": lambda image: image.point(lambda value: min(255, int(value * 1.15))),
}


def build(shared: Path, name: str) -> tuple[Listing, networks.Network]:
    config = Config(data=f"folder:{shared / 'data' / name}", weights=str(shared / "weights" / WEIGHTS))
    listing = sources.load(config)
    return listing, networks.build(config, len(listing.classes), listing.task)


def features(listing: Listing, network: networks.Network) -> tuple[np.ndarray, np.ndarray, float]:
    """Standardised features of the last depth of all images, labels, and the processor time of the features."""
    values, labels, seconds = raw_features(listing, network)
    mean, variance = head_statistics.statistics(values)
    return ((values - mean) / np.sqrt(variance)).astype(np.float32), labels, seconds


def raw_features(listing: Listing, network: networks.Network) -> tuple[np.ndarray, np.ndarray, float]:
    store = audit.make_memory_store(len(listing.ids), network.size)
    kept, images = audit.audit(listing, network.size, lambda count: None, store, inspected=False)
    whole = splits.Split(kept.ids, kept.labels, kept.read, images)
    predict = scoring.make_predictor(network.model_before("standardise"))
    predict(pipeline.evaluation_stream(whole, size=network.size, batch_size=64, span=range(64)))
    began = time.process_time()
    values = predict(pipeline.evaluation_stream(whole, size=network.size, batch_size=64))
    return values, kept.labels, time.process_time() - began


def flips(shared: Path, name: str) -> None:
    listing, network = build(shared, name)
    values, truth, _ = features(listing, network)
    train = np.flatnonzero(listing.split_names == "train")
    for part, rows in (("all images (kerasft audit)", np.arange(len(truth))), ("training images (a run)", train)):
        found = []
        for seed in SEEDS:
            rng, labels = np.random.default_rng(seed), truth[rows].copy()
            flipped = rng.permutation(len(labels))[: round(FLIPPED * len(labels))]
            labels[flipped] = (labels[flipped] + rng.integers(1, len(listing.classes), len(flipped))) % len(
                listing.classes
            )
            predicted = held_out.predict(values[rows], labels, len(listing.classes), "single_label", seed)
            judged = suspects.find(values[rows], labels, predicted, "single_label", seed)
            first = np.argsort(-judged.label_scores)[: len(rows) // 10]
            flagged = np.flatnonzero(judged.is_suspect)
            hits = np.isin(flagged, flipped)
            found.append((np.isin(flipped, first).mean(), len(flagged), hits.mean(), hits.sum() / len(flipped)))
        tenth, count, precision, recall = np.mean(found, 0)
        print(
            f"{name}, {part}: of {len(flipped)} flipped labels {tenth:.1%} in the first tenth "
            f"(seeds: {', '.join(f'{one[0]:.0%}' for one in found)}); flagged {count:.0f}, {precision:.0%} of them flipped, "
            f"{recall:.0%} of the flipped",
            flush=True,
        )


def copies(shared: Path, name: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / name
        shutil.copytree(shared / "data" / name, root)
        sources_of = sorted((root / "train").glob("*/*"))
        chosen = np.random.default_rng(0).permutation(len(sources_of))[: COPIES * len(KINDS)]
        planted = {}
        for place_of, row in enumerate(chosen):
            kind = [*KINDS][place_of % len(KINDS)]
            original = sources_of[row]
            target = root / "test" / original.parent.name / f"planted{place_of}.jpg"
            KINDS[kind](Image.open(original).convert("RGB")).save(target, "JPEG", quality=90)
            planted[target.relative_to(root).as_posix()] = kind, original.relative_to(root).as_posix()
        listing = sources.load(Config(data=f"folder:{root}"))
        store = audit.make_memory_store(len(listing.ids), 224)
        kept, _ = audit.audit(listing, 224, lambda count: None, store)
        named = {one.path: one.other for one in kept.findings if one.kind == "leak"}
        totals = Counter(kind for kind, _ in planted.values())
        right = Counter(kind for path, (kind, original) in planted.items() if named.get(path) == original)
        for kind in KINDS:
            print(f"{name}, copies {kind}: {right[kind]} of {totals[kind]} found")
        others = [path for path in named if path not in planted]
        print(f"{name}: {len(others)} other leaks named: {', '.join(others) or 'none'}", flush=True)


def alarms(shared: Path, name: str) -> None:
    listing, network = build(shared, name)
    store = audit.make_memory_store(len(listing.ids), network.size)
    kept, _ = audit.audit(listing, network.size, lambda count: None, store)
    values, labels, _ = features(listing, network)
    predicted = held_out.predict(values, labels, len(listing.classes), "single_label", 0)
    judged = suspects.find(values, labels, predicted, "single_label", 0)
    counts = Counter(finding.kind for finding in kept.findings)
    counts |= {"suspect_label": int(judged.is_suspect.sum()), "outlier": int(judged.is_outlier.sum())}
    found = ", ".join(f"{kind} {count}" for kind, count in counts.items() if count)
    print(f"{name}: {len(listing.ids)} images as they are: {found or 'nothing'}", flush=True)


def outliers(shared: Path, name: str) -> None:
    own, kinds = raw_features(*build(shared, name))[0], []
    for other in sorted({"flowers5", "hands10", "hymenoptera"} - {name}):
        foreign = raw_features(*build(shared, other))[0]
        rows, flagged, alone = np.random.default_rng(0).permutation(len(foreign))[:FOREIGN], 0, 0
        for row in rows:
            values = np.concatenate([own, foreign[row : row + 1]])
            mean, variance = head_statistics.statistics(values)
            values = ((values - mean) / np.sqrt(variance)).astype(np.float32)
            ranges = suspects.ranges_above(np.log(np.maximum(suspects.neighbour_distances(values, 0), 1e-6)))
            flagged += ranges[-1] > suspects.MAX_RANGES
            alone = max(alone, int((ranges[:-1] > suspects.MAX_RANGES).sum()))
        kinds.append(f"of {len(rows)} images of {other}, one at a time, {flagged} are outliers")
    print(f"{name}: {'; '.join(kinds)}; of its own at most {alone}", flush=True)


def cost(shared: Path, name: str) -> None:
    listing, network = build(shared, name)

    def time_audit(*, inspected: bool) -> float:
        store = audit.make_memory_store(len(listing.ids), network.size)
        began = time.process_time()
        audit.audit(listing, network.size, lambda count: None, store, inspected=inspected)
        return time.process_time() - began

    time_audit(inspected=True)
    rounds = [(time_audit(inspected=False), time_audit(inspected=True)) for _ in range(5)]
    plain, inspected = np.median(rounds, 0)
    values, labels, seconds = features(listing, network)
    judged = []
    for _ in range(3):
        began = time.process_time()
        predicted = held_out.predict(values, labels, len(listing.classes), "single_label", 0)
        suspects.find(values, labels, predicted, "single_label", 0)
        judged.append(time.process_time() - began)
    added = inspected - plain + np.median(judged)
    print(
        f"{name}: processor time of the audit {plain:.2f} s, of the features {seconds:.2f} s; the inspection adds "
        f"{inspected - plain:.2f} s, the judgement {np.median(judged):.2f} s: {added / (plain + seconds):.0%} together",
        flush=True,
    )


def main() -> None:
    parts = {"flips": flips, "copies": copies, "alarms": alarms, "outliers": outliers, "cost": cost}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--sets", default="flowers5,hands10,hymenoptera")
    parser.add_argument("--parts", default=",".join(parts))
    given = parser.parse_args()
    for part in given.parts.split(","):
        for name in given.sets.split(","):
            parts[part](given.shared, name)


if __name__ == "__main__":
    main()
