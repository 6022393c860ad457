"""Does `--weights=bundled` transfer? Against random weights, default settings, on the same images.

Digits with few training examples a class (the validation and test splits stay whole), and photographs at a small size.
`head alone` is the linear probe on frozen features. Random weights with 5 digits a class stay at chance: see
bundled_probe.py for what their features could do.

    python benchmarks/weights/bundled_vs_random.py --shared=../shared --out=/tmp/bundled [--limits=5,10,50] [--seeds=0,1,2]
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

RECIPES = {
    "random": ("--weights=none",),
    "bundled": ("--weights=bundled",),
    "bundled, head alone": ("--weights=bundled", "--phases=head"),
}


def run(out: Path, name: str, flags: list[str], seed: int, recipe: str) -> dict:
    """metrics.json; a finished run is read, not repeated."""
    folder = out / f"{name}-{seed}-{recipe.replace(', ', '-').replace(' ', '-')}"
    line = [sys.executable, "-m", "kerasft.run", *flags, *RECIPES[recipe], f"--seed={seed}", f"--run_dir={folder}"]
    line += ["--precision=float32", "--notensorboard", f"--export_dir={out / 'saved_models'}"]
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
    return json.loads((folder / "metrics.json").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, help="folder with data/hymenoptera and data/flowers5")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limits", default="5,10,50", help="digits a class; empty for none")
    parser.add_argument("--sets", default="hymenoptera,flowers5")
    parser.add_argument("--size", type=int, default=96, help="of the photographs, in pixels")
    parser.add_argument("--seeds", default="0,1,2")
    options = parser.parse_args()
    seeds = [int(seed) for seed in options.seeds.split(",")]
    tasks = {
        f"digits, {k} a class": ["--data=digits", f"--per_class_limit={k}"] for k in options.limits.split(",") if k
    }
    for name in options.sets.split(",") if options.shared else []:
        data = options.shared.resolve() / "data" / name
        tasks[f"{name}, {options.size} px"] = [f"--data=folder:{data}", f"--image_size={options.size}"]
    print(
        "| data | "
        + " | ".join(f"{recipe}: accuracy | log loss | s" for recipe in RECIPES)
        + " | errors, bundled / random |"
    )
    print("| --- " * (2 + 3 * len(RECIPES)) + "|")
    for name, flags in tasks.items():
        cells, errors = [], {}
        for recipe in RECIPES:
            runs = [run(options.out, name.replace(", ", "-").replace(" ", "-"), flags, seed, recipe) for seed in seeds]
            accuracies = [metrics["test"]["accuracy"] for metrics in runs]
            errors[recipe] = 1 - np.mean(accuracies)
            cells += [f"{np.mean(accuracies):.3f} ({min(accuracies):.3f} - {max(accuracies):.3f})"]
            cells += [f"{np.mean([metrics['test']['loss'] for metrics in runs]):.3f}"]
            cells += [f"{np.mean([metrics['seconds']['total'] for metrics in runs]):.0f}"]
        print(f"| {name} | {' | '.join(cells)} | {errors['bundled'] / errors['random']:.2f} |", flush=True)


if __name__ == "__main__":
    main()
