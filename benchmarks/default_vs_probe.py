"""Does fine-tuning earn more than its probe? Default settings against `--phases=head`, on the same pictures.

Runs both through the command for every data set, weights file and seed given, and compares the test pictures pair by
pair: accuracy, log loss, and a bootstrap interval of the difference in log loss over all runs together.

    python benchmarks/default_vs_probe.py --shared=../shared --out=/tmp/recipes [--sets=hymenoptera] [--seeds=0,1,2]
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

WEIGHTS = {
    "MobileNet(alpha=0.25)": "mobilenet_0.25_224_no_top.h5",
    "MobileNet(alpha=0.75)": "mobilenet_0.75_224_no_top.h5",
    "MobileNetV2(alpha=0.35)": "mobilenet_v2_0.35_224_no_top.h5",
}
RECIPES = {"probe": ("--phases=head", "--head_init=probe"), "default": ()}


def run(shared: Path, out: Path, data: str, backbone: str, seed: int, recipe: str) -> tuple[dict, np.ndarray]:
    """metrics.json and the log loss of each test picture; a finished run is read, not repeated."""
    folder = out / f"{data}-{backbone}-{seed}-{recipe}"
    line = [sys.executable, "-m", "kerasft.run", f"--data=folder:{shared / 'data' / data}", f"--backbone={backbone}"]
    line += [f"--weights={shared / 'weights' / WEIGHTS[backbone]}", f"--seed={seed}", f"--run_dir={folder}"]
    line += [f"--export_dir={out / 'saved_models'}", *RECIPES[recipe]]
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
    with np.load(folder / "predictions.npz") as stored:
        chances = stored["probabilities"][np.arange(len(stored["labels"])), stored["labels"]]
    return json.loads((folder / "metrics.json").read_text()), -np.log(np.maximum(chances, 1e-12))


def interval(differences: list[np.ndarray], draws: int = 10000) -> tuple[float, float]:
    """95 % bootstrap interval of the mean difference over all runs, test pictures drawn anew within each run."""
    rng = np.random.default_rng(0)
    total = sum(map(len, differences))
    sums = sum(d[rng.integers(0, len(d), (draws, len(d)))].sum(1) for d in differences)
    return tuple(np.quantile(sums / total, [0.025, 0.975]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", default="hymenoptera,flowers5")
    parser.add_argument("--backbones", default=";".join(WEIGHTS), help="parted by ;")
    parser.add_argument("--seeds", default="0")
    options = parser.parse_args()
    print(
        "| data | backbone | seed | accuracy: probe | default | log loss: probe | default | later phase | seconds: probe | default |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    differences, accuracies = [], []
    for data in options.sets.split(","):
        for backbone in options.backbones.split(";"):
            for seed in map(int, options.seeds.split(",")):
                pair = [run(options.shared.resolve(), options.out, data, backbone, seed, recipe) for recipe in RECIPES]
                (probe, probe_losses), (default, default_losses) = pair
                differences.append(default_losses - probe_losses)
                accuracies.append((probe["test"]["accuracy"], default["test"]["accuracy"]))
                share = default["phases"][-1]["share"]
                cells = [data, backbone, seed, *(f"{value:.4f}" for value in accuracies[-1])]
                cells += [f"{metrics['test']['loss']:.4f}" for metrics in (probe, default)]
                cells += [f"{share:.0%}" if share else "undone"]
                cells += [f"{metrics['seconds']['total']:.0f}" for metrics in (probe, default)]
                print("| " + " | ".join(map(str, cells)) + " |", flush=True)
    low, high = interval(differences)
    print(
        f"\nlog loss, default - probe, over all: {np.concatenate(differences).mean():.4f} (95 % {low:.4f} to {high:.4f})"
    )
    print(
        f"accuracy, mean over the runs: probe {np.mean([a for a, _ in accuracies]):.4f}, default {np.mean([b for _, b in accuracies]):.4f}"
    )


if __name__ == "__main__":
    main()
