"""Flags of a run, side by side: test accuracy, log loss paired image by image with the first recipe, processor seconds.

Runs each recipe through the command for every data set, network and seed. `hands10:8` is 8 training images a class and some
for validation, drawn by the seed, and all test images. A set that stands in OUT/sets is taken
from there (`shift.py` makes some). A finished run is read, not repeated. `{NAME}` in a recipe stands for the run
folder of that recipe, in `--average=soup(runs='{NAME}')` for example.

    python benchmarks/training/recipes.py --shared=../shared --out=/tmp/recipes --sets=flowers5:8,hands10:8 --seeds=0,1 \
        --recipe='thirty: --phases=head | all(epochs=30, lr=1e-3, batch_norm=train, image_size=192)' \
        --recipe='hundred: --phases=head | all(epochs=100, lr=1e-3, batch_norm=train, image_size=192)'
"""

import argparse
import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from default_vs_probe import WEIGHTS, fewer


def run(shared: Path, out: Path, case: tuple[str, str, int], name: str, flags: str) -> tuple[dict, np.ndarray, float]:
    """metrics.json, the log loss of each test image, and the processor seconds of the whole process."""
    data, backbone, seed = case
    folder, (source, _, few) = out / f"{data}-{backbone}-{seed}-{name}", data.partition(":")
    flags = re.sub(r"\{(\w+)\}", lambda other: f"{out / f'{data}-{backbone}-{seed}-{other[1]}'}", flags)
    images = out / "sets" / source if (out / "sets" / source).is_dir() else shared / "data" / source
    images = fewer(images, out / "sets" / f"{data}-{seed}", int(few), seed) if few else images
    line = [sys.executable, "-m", "kerasft.run", f"--data=folder:{images}", f"--backbone={backbone}"]
    line += [f"--weights={shared / 'weights' / WEIGHTS[backbone]}", f"--seed={seed}", f"--run_dir={folder}"]
    line += [f"--export_dir={out / 'saved_models'}", *(f"--{flag}" for flag in flags.split("--")[1:])]
    timed = folder / "processor_seconds.json"
    if not timed.is_file():
        before = os.times()
        subprocess.run([flag.strip() for flag in line], check=True, stdout=subprocess.DEVNULL)
        after = os.times()
        spent = after.children_user - before.children_user + after.children_system - before.children_system
        timed.write_text(json.dumps(spent))
    with np.load(folder / "predictions.npz") as stored:
        chances = stored["probabilities"][np.arange(len(stored["labels"])), stored["labels"]]
    metrics = json.loads((folder / "metrics.json").read_text())
    return metrics, -np.log(np.maximum(chances, 1e-12)), json.loads(timed.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", default="hymenoptera,flowers5:8,hands10:20")
    parser.add_argument("--backbones", default="MobileNet(alpha=0.25)", help="separated by ;")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--recipe", action="append", required=True, metavar="NAME: --FLAG=VALUE ...")
    options = parser.parse_args()
    recipes = [(name.strip(), flags) for name, _, flags in (text.partition(":") for text in options.recipe)]
    options.out.mkdir(parents=True, exist_ok=True)
    shared, out = options.shared.resolve(), options.out.resolve()
    seeds = [int(seed) for seed in options.seeds.split(",")]
    print("| data | network | seed | recipe | accuracy | log loss | less the first's | kept | processor seconds |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for case in itertools.product(options.sets.split(","), options.backbones.split(";"), seeds):
        first = None
        for name, flags in recipes:
            metrics, losses, seconds = run(shared, out, case, name, flags)
            first = losses if first is None else first
            gap = losses - first
            error = gap.std(ddof=1) / np.sqrt(len(gap))
            kept = ", ".join(f"{phase['share']:g}" for phase in metrics["phases"])
            found = (
                f"{metrics['test']['accuracy']:.3f} | {metrics['test']['loss']:.3f} | {gap.mean():+.3f} ± {error:.3f}"
            )
            print(f"| {' | '.join(map(str, case))} | {name} | {found} | {kept} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
