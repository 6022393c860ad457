"""How many cached views does a frozen part need? The test images' log loss and accuracy by `views=`, against none.

Every case is a `top` phase after the solved head, on augmented images, through the command: `views=0` makes new ones each
epoch, `views=1` sees the images as they are, more are cached augmented views in turn. What `auto` takes is
a quarter of the epochs, four at least (`phase_inputs.plan`). A difference is that of the mean log loss to `views=0` of the same case.

    python benchmarks/training/cached_augmentations.py --shared=../shared --out=OUT [--sets=flowers5,hymenoptera] [--epochs=16] [--views=0,1,2,4,8]
"""

import argparse
import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from default_vs_probe import WEIGHTS, fewer, interval

BACKBONES = "MobileNet(alpha=0.25);MobileNetV2(alpha=0.35)"


def run(shared: Path, out: Path, case: tuple[str, str, int], phase: str) -> tuple[float, np.ndarray]:
    """Test accuracy, and the log loss of each test image; a finished run is read, not repeated."""
    data, backbone, seed = case
    name, _, few = data.partition(":")
    source = shared / "data" / name
    source = fewer(source, out / "sets" / f"{data}-{seed}", int(few), seed) if few else source
    folder = out / f"{data}-{backbone}-{seed}-{phase}"
    line = [sys.executable, "-m", "kerasft.run", f"--data=folder:{source}", f"--backbone={backbone}", f"--seed={seed}"]
    line += [f"--weights={shared / 'weights' / WEIGHTS[backbone]}", f"--phases={phase}", f"--run_dir={folder}"]
    line += [f"--export_dir={out / 'saved_models'}", "--keep_cache", f"--cache_dir={out / 'cache'}"]
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with np.load(folder / "predictions.npz") as stored:
        chances = stored["probabilities"][np.arange(len(stored["labels"])), stored["labels"]]
    accuracy = json.loads((folder / "metrics.json").read_text())["test"]["accuracy"]
    return accuracy, -np.log(np.maximum(chances, 1e-12))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", default="flowers5,flowers5:30,hymenoptera", help="NAME, or NAME:IMAGES of a class")
    parser.add_argument("--backbones", default=BACKBONES, help="separated by ;")
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--unfreeze", default="0.25")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--views", default="0,1,2,4,8")
    options = parser.parse_args()
    seeds = map(int, options.seeds.split(","))
    cases = list(itertools.product(options.sets.split(","), options.backbones.split(";"), seeds))
    print(f"top(unfreeze={options.unfreeze}, epochs={options.epochs}, views=...), {len(cases)} cases\n")
    print("| views | log loss | accuracy | log loss, more than with new ones each epoch (95 %) | better cases |")
    print("| --- | --- | --- | --- | --- |", flush=True)
    anew = None
    for views in ["head", *options.views.split(",")]:
        top = f"top(unfreeze={options.unfreeze}, epochs={options.epochs}, views={views})"
        phase = "head" if views == "head" else f"head(epochs=0) | {top}"
        found = [run(options.shared.resolve(), options.out, case, phase) for case in cases]
        accuracies, losses = zip(*found)
        cells = ["the probe" if views == "head" else views, f"{np.mean([one.mean() for one in losses]):.4f}"]
        cells.append(f"{np.mean(accuracies):.4f}")
        anew = losses if views == "0" else anew
        if anew and views != "0":
            differences = [one - other for one, other in zip(losses, anew)]
            low, high = interval(differences)
            cells.append(f"{np.concatenate(differences).mean():+.4f} ({low:+.4f} to {high:+.4f})")
            cells.append(str(sum(one.mean() < 0 for one in differences)))
        print("| " + " | ".join(cells + [""] * (5 - len(cells))) + " |", flush=True)


if __name__ == "__main__":
    main()
