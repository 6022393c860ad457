"""Epochs with the frozen part cached, the building of the cache included, against computing it anew each epoch.

Both through the command, on the same images as they are (no augmentation), so that the weights they end with are equal.
Printed: how many times as fast the whole phase was, how many times as fast one of its later epochs (the median of all but the
first), and the greatest difference of a test probability. Then a first and a second run on a kept cache with another rate: the seconds of the
audit, and from the beginning of training (the probe among it) to the end of its first epoch.

    python benchmarks/training/cached_phases.py --shared=../shared --out=OUT [--set=flowers5] [--phases='head(epochs=20); top(unfreeze=0.25, epochs=10)']
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

WEIGHTS = "mobilenet_0.25_224_no_top.h5"
PHASES = "head(epochs=20); top(unfreeze=0.25, epochs=10); top(unfreeze=0.5, epochs=10)"


def run(shared: Path, out: Path, name: str, phase: str, views: int) -> dict:
    """The phase's record, the median seconds of a later epoch, and the test probabilities."""
    phase = f"{phase[:-1]}, views={views})"
    line = [sys.executable, "-m", "kerasft.run", f"--data=folder:{shared / 'data' / name}", f"--phases={phase}"]
    line += [f"--weights={shared / 'weights' / WEIGHTS}", "--augment=none", "--head_init=zeros", "--noresume"]
    line += [f"--run_dir={out}", f"--export_dir={out / 'saved_models'}"]
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    rows = [json.loads(row) for row in (out / "history.jsonl").read_text().splitlines()]
    with np.load(out / "predictions.npz") as stored:
        probabilities = stored["probabilities"]
    record = json.loads((out / "metrics.json").read_text())["phases"][-1]
    return {**record, "epoch": float(np.median(np.diff([row["seconds"] for row in rows]))), "test": probabilities}


def warm(shared: Path, out: Path, name: str) -> None:
    """Prints how soon a run trains on a cache that another one left."""
    print("\n| run | audit, s | to the end of the first epoch, s |\n| --- | --- | --- |")
    for run, lr in (("first", 1e-2), ("second", 2e-2)):
        line = [sys.executable, "-m", "kerasft.run", f"--data=folder:{shared / 'data' / name}", "--noresume"]
        line += [f"--phases=head(epochs=20, lr={lr})", f"--weights={shared / 'weights' / WEIGHTS}", "--keep_cache"]
        line += [f"--cache_dir={out / 'kept'}", f"--run_dir={out / run}", f"--export_dir={out / 'saved_models'}"]
        subprocess.run(line, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        audit = json.loads((out / run / "metrics.json").read_text())["seconds"]["audit"]
        epoch = json.loads((out / run / "history.jsonl").read_text().splitlines()[0])
        print(f"| {run} | {audit:.2f} | {epoch['seconds']:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--set", default="flowers5")
    parser.add_argument("--phases", default=PHASES, help="separated by ;")
    options = parser.parse_args()
    print(
        "| phase | phase: times as fast | later epoch: times as fast | seconds | anew | epoch's seconds | anew | probabilities |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for place, phase in enumerate(options.phases.split(";")):
        kept, anew = (
            run(options.shared.resolve(), options.out / f"{place}-{views}", options.set, phase.strip(), views)
            for views in (1, 0)
        )
        cells = [phase.strip(), f"{anew['seconds'] / kept['seconds']:.1f}", f"{anew['epoch'] / kept['epoch']:.0f}"]
        cells += [f"{kept['seconds']:.1f}", f"{anew['seconds']:.1f}", f"{kept['epoch']:.3f}", f"{anew['epoch']:.2f}"]
        cells += [f"{np.abs(kept['test'] - anew['test']).max():.0e}"]
        print("| " + " | ".join(cells) + " |", flush=True)
    warm(options.shared.resolve(), options.out, options.set)


if __name__ == "__main__":
    main()
