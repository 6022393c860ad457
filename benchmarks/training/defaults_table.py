"""The default settings beside a probe, the solved head and the guide of keras.io, over data sets, networks and seeds.

Each row of the table is one data set and one network, averaged over the seeds: accuracy and log loss of the test images, the
default's log loss less that of the probe and of the guide, paired image by image, with a 95 % bootstrap interval, and seconds of the processor
for the whole process, so that other work on the machine counts little. `flowers5:10` is 10 training images a class, drawn by the
seed. `digits:30` are scikit-learn's digits, with 30 of each class to train on. A finished run is read, not repeated.

    python benchmarks/training/defaults_table.py --shared=../shared --out=OUT [--sets=hymenoptera,flowers5:10] [--seeds=0,1,2] \
        [--guide_seeds=0]
"""

import argparse
import itertools
import json
import random
import resource
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from default_vs_probe import RECIPES, WEIGHTS, fewer, interval
from keras_guide import guide
from recipes import run

SETS = "hymenoptera,digits:30,flowers5:10,hands10:10,flowers5,hands10"
FLAGS = {name: " ".join(flags) for name, flags in RECIPES.items()}
GUIDE_EPOCHS = 10
DIGITS_TEST = 60  # of each class


@dataclass(frozen=True)
class Result:
    """What one run ended with. `losses` are in the order of `ids`."""

    accuracy: float
    losses: np.ndarray
    seconds: float
    ids: np.ndarray


def write_digits(place: Path) -> None:
    """Writes scikit-learn's digits as files of train, val and test, 60 of each class for testing."""
    from PIL import Image
    from sklearn.datasets import load_digits

    bunch, order = load_digits(), random.Random("digits")
    for label in range(10):
        chosen = [int(one) for one in np.flatnonzero(bunch.target == label)]
        order.shuffle(chosen)
        for at, one in enumerate(chosen):
            part = "test" if at < DIGITS_TEST else "val" if at < DIGITS_TEST + 20 else "train"
            file = place / part / str(label) / f"{one:04}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((bunch.images[one] / 16 * 255).round().astype(np.uint8)).convert("RGB").save(file)


def images_of(shared: Path, out: Path, data: str, seed: int) -> Path:
    name, _, few = data.partition(":")
    folder = out / "sets" / name if name == "digits" else shared / "data" / name
    return fewer(folder, out / "sets" / f"{data}-{seed}", int(few), seed) if few else folder


def run_guide(shared: Path, out: Path, case: tuple[str, str, int]) -> Result:
    """Runs the guide's recipe in a process of its own, or reads what it ended with."""
    data, backbone, seed = case
    stored = out / f"{data}-{backbone}-{seed}-guide.npz"
    images, weights = images_of(shared, out, data, seed), shared / "weights" / WEIGHTS[backbone]
    if not stored.is_file():
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        line = [sys.executable, __file__, "--guide", images, weights, seed, backbone, stored]
        subprocess.run([str(part) for part in line], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        stored.with_suffix(".json").write_text(json.dumps(seconds))
    seconds = json.loads(stored.with_suffix(".json").read_text())
    with np.load(stored) as found:
        right = np.argmax(found["probabilities"], axis=1) == found["labels"]
        return Result(float(right.mean()), found["losses"], seconds, found["ids"])


def run_ours(shared: Path, out: Path, case: tuple[str, str, int], recipe: str) -> Result:
    metrics, losses, seconds = run(shared, out, case, recipe, FLAGS[recipe])
    data, backbone, seed = case
    with np.load(out / f"{data}-{backbone}-{seed}-{recipe}" / "predictions.npz") as stored:
        return Result(metrics["test"]["accuracy"], losses, seconds, stored["ids"])


def paired(results: list[Result], others: list[Result]) -> str:
    """The mean difference of log loss, image by image, with its interval."""
    differences = []
    for one, other in zip(results, others, strict=True):
        place = {name: at for at, name in enumerate(other.ids)}
        differences.append(one.losses - other.losses[[place[name] for name in one.ids]])
    low, high = interval(differences)
    return f"{np.concatenate(differences).mean():+.3f} ({low:+.3f} to {high:+.3f})"


def print_rows(found: dict[tuple[str, str], dict[str, dict[int, Result]]]) -> None:
    names = ("guide", *FLAGS)
    heads = [f"{what}: {names[0]} | " + " | ".join(names[1:]) for what in ("accuracy", "log loss", "CPU seconds")]
    print(f"| data | backbone | seeds | {' | '.join(heads)} | default - probe | default - guide |")
    print("|" + " --- |" * (5 + 3 * len(names)), flush=True)
    for (data, backbone), recipes in found.items():
        cells = [data, backbone, len(recipes["default"])]
        cells += [f"{np.mean([one.accuracy for one in recipes[name].values()]):.3f}" for name in names]
        cells += [f"{np.mean([one.losses.mean() for one in recipes[name].values()]):.3f}" for name in names]
        cells += [f"{np.mean([one.seconds for one in recipes[name].values()]):.0f}" for name in names]
        for name in ("probe", "guide"):
            seeds = sorted(recipes[name].keys() & recipes["default"].keys())
            cells.append(paired([recipes["default"][one] for one in seeds], [recipes[name][one] for one in seeds]))
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def print_pooled(found: dict[tuple[str, str], dict[str, dict[int, Result]]]) -> None:
    every = list(found.values())
    for name in ("probe", "head", "guide"):
        pairs = [(kind["default"][seed], other) for kind in every for seed, other in kind[name].items()]
        ours, others = (list(side) for side in zip(*pairs, strict=True))
        points = 100 * np.mean([one.accuracy - other.accuracy for one, other in pairs])
        seconds = [one.seconds / other.seconds for one, other in pairs]
        print(
            f"\ndefault - {name}, {len(pairs)} runs: log loss {paired(ours, others)}, accuracy {points:+.1f} points "
            f"on average, {min(seconds):.2f} to {max(seconds):.2f} times the CPU seconds"
        )


def main() -> None:
    if sys.argv[1:2] == ["--guide"]:
        folder, weights, seed, backbone, stored = sys.argv[2:]
        guide(Path(folder), Path(weights), int(seed), GUIDE_EPOCHS, Path(stored), backbone)
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", default=SETS, help="NAME, or NAME:IMAGES of a class")
    parser.add_argument("--backbones", default=";".join(WEIGHTS), help="separated by ;")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--guide_seeds", default="0", help="the seeds of the guide, which takes long")
    parser.add_argument("--finished", action="store_true", help="run nothing: only what is in OUT already")
    options = parser.parse_args()
    shared, out = options.shared.resolve(), options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    if "digits" in options.sets and not (out / "sets/digits").is_dir():
        write_digits(out / "sets/digits")
    seeds, guide_seeds = ([int(one) for one in text.split(",")] for text in (options.seeds, options.guide_seeds))
    found = {}
    for seed, data, backbone in itertools.product(seeds, options.sets.split(","), options.backbones.split(";")):
        case = (data, backbone, seed)
        if options.finished and not (out / f"{data}-{backbone}-{seed}-default" / "processor_seconds.json").is_file():
            continue
        recipes = found.setdefault((data, backbone), defaultdict(dict))
        for recipe in FLAGS:
            recipes[recipe][seed] = run_ours(shared, out, case, recipe)
        if seed in guide_seeds:
            recipes["guide"][seed] = run_guide(shared, out, case)
        print(data, backbone, seed, {name: round(kind[seed].seconds) for name, kind in recipes.items() if seed in kind},
              file=sys.stderr, flush=True)  # fmt: skip
    print_rows(found)
    print_pooled(found)


if __name__ == "__main__":
    main()
