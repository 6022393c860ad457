"""Does fine-tuning earn more than a probe? Default settings against the solved heads on one and on several depths.

Runs all three through the command for every data set, weights file and seed given, and compares the test images pair by
pair: accuracy, log loss, and a bootstrap interval of the difference in log loss over all runs together.
`flowers5:30` is 30 training images a class and 10 for validation, drawn by the seed, and all test images.

    python benchmarks/training/default_vs_probe.py --shared=../shared --out=/tmp/recipes [--sets=hymenoptera,flowers5:30] [--seeds=0] [--jobs=2]
"""

import argparse
import contextlib
import itertools
import json
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

WEIGHTS = {
    "MobileNet(alpha=0.25)": "mobilenet_0.25_224_no_top.h5",
    "MobileNet(alpha=0.75)": "mobilenet_0.75_224_no_top.h5",
    "MobileNetV2(alpha=0.35)": "mobilenet_v2_0.35_224_no_top.h5",
}
RECIPES = {
    "probe": ("--phases=head", "--head_init=probe", "--features=last"),
    "head": ("--phases=head",),
    "default": (),
}


def run(shared: Path, out: Path, data: str, backbone: str, seed: int, recipe: str) -> tuple[dict, np.ndarray]:
    """metrics.json and the log loss of each test image; a finished run is read, not repeated."""
    folder = out / f"{data}-{backbone}-{seed}-{recipe}"
    name, _, few = data.partition(":")
    source = (
        fewer(shared / "data" / name, out / "sets" / f"{data}-{seed}", int(few), seed)
        if few
        else shared / "data" / name
    )
    line = [sys.executable, "-m", "kerasft.run", f"--data=folder:{source}", f"--backbone={backbone}"]
    line += [f"--weights={shared / 'weights' / WEIGHTS[backbone]}", f"--seed={seed}", f"--run_dir={folder}"]
    line += [f"--export_dir={out / 'saved_models'}", *RECIPES[recipe]]
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with np.load(folder / "predictions.npz") as stored:
        chances = stored["probabilities"][np.arange(len(stored["labels"])), stored["labels"]]
    return json.loads((folder / "metrics.json").read_text()), -np.log(np.maximum(chances, 1e-12))


def fewer(folder: Path, place: Path, count: int, seed: int) -> Path:
    """Links to some of a set's images of each class, a third as many for validation, and to all for testing."""
    for part, most in (("train", count), ("val", max(2, count // 3)), ("test", None)):
        for label in sorted((folder / part).iterdir()):
            files = sorted(label.iterdir())
            chosen = files if most is None else random.Random(f"{seed} {part} {label.name}").sample(files, most)
            (place / part / label.name).mkdir(parents=True, exist_ok=True)
            for file in chosen:
                link = place / part / label.name / file.name
                with contextlib.suppress(FileExistsError):  # from before, or from another case meanwhile
                    link.symlink_to(file)
    return place


def interval(differences: list[np.ndarray], draws: int = 10000) -> tuple[float, float]:
    """95 % bootstrap interval of the mean difference over all runs, test images drawn anew within each run."""
    rng = np.random.default_rng(0)
    total = sum(map(len, differences))
    sums = sum(d[rng.integers(0, len(d), (draws, len(d)))].sum(1) for d in differences)
    return tuple(np.quantile(sums / total, [0.025, 0.975]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", default="hymenoptera,flowers5", help="NAME, or NAME:IMAGES of a class")
    parser.add_argument("--backbones", default=";".join(WEIGHTS), help="separated by ;")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side; their seconds then mean little")
    options = parser.parse_args()
    seeds = map(int, options.seeds.split(","))
    cases = list(itertools.product(seeds, options.sets.split(","), options.backbones.split(";")))
    print(
        "| data | backbone | seed | accuracy: probe | head | default | log loss: probe | head | default | kept "
        "| seconds: probe | head | default |"
    )
    print("|" + " --- |" * 13, flush=True)

    def all_recipes(case: tuple[int, str, str]) -> list[tuple[dict, np.ndarray]]:
        seed, data, backbone = case
        return [run(options.shared.resolve(), options.out, data, backbone, seed, recipe) for recipe in RECIPES]

    found = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for (seed, data, backbone), results in zip(cases, pool.map(all_recipes, cases)):
            (probe, probe_losses), (head, _), (default, losses) = results
            both = (probe, head, default)
            share = default["phases"][-1]["share"]
            found.append((losses - probe_losses, probe["test"]["accuracy"], default["test"]["accuracy"], share))
            cells = [data, backbone, seed, *(f"{metrics['test']['accuracy']:.4f}" for metrics in both)]
            cells += [f"{metrics['test']['loss']:.4f}" for metrics in both]
            cells += [f"{share:.0%}" if share else "undone"]
            cells += [f"{metrics['seconds']['total']:.0f}" for metrics in both]
            print("| " + " | ".join(map(str, cells)) + " |", flush=True)
    differences, probes, defaults, shares = zip(*found)
    low, high = interval(list(differences))
    mean = np.concatenate(differences).mean()
    print(f"\nlog loss, default - probe, over all {len(found)} runs: {mean:.4f} (95 % {low:.4f} to {high:.4f})")
    print(f"accuracy, mean over the runs: probe {np.mean(probes):.4f}, default {np.mean(defaults):.4f}")
    print(f"a later phase was kept in {np.count_nonzero(shares)} of {len(found)} runs")


if __name__ == "__main__":
    main()
