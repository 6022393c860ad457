"""From the keras.io recipe to the best network: one way of fine-tuning after the other, each with what it gains or loses.

Begins with the transfer-learning guide of keras.io, then with its recipe as kerasft's flags, and adds one way at a time. A way
stays if the validation loss falls; else the next one is added to what was there before. The test images choose nothing. Test
accuracy and log loss are shown with paired differences to the recipe before, and at the end to the guide. Processor seconds are of
whole processes. A finished run is read, not repeated.

    python benchmarks/training/worked_case.py --shared=../shared --out=OUT [--set=flowers5] [--seed=0] [--epochs=20]
"""

import argparse
import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import keras_guide
import numpy as np

from kerasft.evaluation import intervals, paired

# What the guide does, as flags of kerasft; FINE_TUNING is what the phase `all` takes.
START = {
    "backbone": "MobileNet(alpha=0.25)",
    "weights": "mobilenet_0.25_224_no_top.h5",
    "features": "last",
    "framing": "squash",
    "head": "linear(dropout=0.2)",
    "head_init": "glorot_uniform",
    "augment": "flip | rotate(36)",
    "optimizer": "adam",
    "schedule": "constant",
}
FINE_TUNING = {"lr": 1e-5, "epochs": 10}
TRAINED_HEAD, SOLVED_HEAD = "head(epochs=10, lr=1e-3)", "head"


class Way(NamedTuple):
    """One way of fine-tuning: what it changes in the recipe before."""

    name: str
    flags: dict[str, Any]
    fine_tuning: dict[str, Any]


def ways(epochs: int, suspects: Path) -> list[Way]:
    """The ways in the order in which they are added."""
    small, large = "mobilenet_v2_0.35_224_no_top.h5", "mobilenet_0.75_224_no_top.h5"
    return [
        Way("the head is solved, not trained", {"head": "linear", "head_init": "probe"}, {}),
        Way("a rate that moves the weights, cosine", {"schedule": "cosine"}, {"lr": 1e-3}),
        Way("BatchNormalization follows the batches", {}, {"batch_norm": "train"}),
        Way("random crops and colours instead of turns", {"augment": "auto"}, {}),
        Way("images are not squashed", {"framing": "auto"}, {}),
        Way("training images of 192 pixels", {}, {"image_size": 192}),
        Way("AdamW instead of Adam", {"optimizer": "adamw"}, {}),
        Way("rates fall with depth", {}, {"layer_decay": 0.9}),
        Way("pull to the start (L2-SP)", {}, {"l2sp": 0.01}),
        Way("moving average of the weights", {"average": "ema(momentum=0.98)"}, {}),
        Way("label smoothing", {"loss": "cross_entropy(label_smoothing=0.1)"}, {}),
        Way("mixup", {"augment": "crop(area=(0.35, 1)) | flip | color(0.2) | mixup(0.2)"}, {}),
        Way("sharpness-aware steps (SAM)", {}, {"sam": 0.05}),
        Way("suspicious training images left out", {"exclude": str(suspects)}, {}),
        Way("the head sees several depths", {"features": "auto"}, {}),
        Way("the mirror image is asked as well", {"tta": "flip"}, {}),
        Way(f"{epochs} epochs instead of 10", {}, {"epochs": epochs}),
        Way("MobileNetV2(alpha=0.35)", {"backbone": "MobileNetV2(alpha=0.35)", "weights": small}, {}),
        Way("MobileNet(alpha=0.75)", {"backbone": "MobileNet(alpha=0.75)", "weights": large}, {"lr": 3e-4}),
        Way("images of 256 pixels, 224 in training", {"image_size": 256}, {"image_size": 224}),
    ]


def as_flags(settings: dict[str, Any], fine_tuning: dict[str, Any], weights: Path) -> list[str]:
    """A recipe as flags of `kerasft train`."""
    head = SOLVED_HEAD if settings["head_init"] == "probe" else TRAINED_HEAD
    arguments = ", ".join(f"{name}={value}" for name, value in fine_tuning.items())
    settings = {**settings, "weights": weights / settings["weights"], "phases": f"{head} | all({arguments})"}
    return [f"--{name}={value}" for name, value in settings.items()]


def processor_seconds() -> float:
    spent = os.times()
    return spent.children_user + spent.children_system


def call(line: list[str], folder: Path) -> float:
    """Runs a command unless it was finished before; the processor seconds of it and of what it started."""
    timed = folder / "processor_seconds.json"
    if not timed.is_file():
        before = processor_seconds()
        with (folder / "output.log").open("w") as output:
            done = subprocess.run(line, stdout=output, stderr=subprocess.STDOUT)
        if done.returncode:
            raise SystemExit((folder / "output.log").read_text()[-2000:])
        timed.write_text(json.dumps(processor_seconds() - before))
    return json.loads(timed.read_text())


def run_guide(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The guide's row. Its validation images choose nothing, so their loss is not asked."""
    folder.mkdir(parents=True, exist_ok=True)
    seconds = call([sys.executable, __file__, *sys.argv[1:], f"--guide={folder / 'predictions.npz'}"], folder)
    return {"arrays": arrays(folder), "validation": None, "seconds": seconds, "kept": ""}


def run(name: str, recipe: tuple[dict[str, Any], dict[str, Any]], options: argparse.Namespace) -> dict[str, Any]:
    """The row of one recipe: its flags, and what its phase `all` takes."""
    folder = options.out / name
    folder.mkdir(parents=True, exist_ok=True)
    line = [sys.executable, "-m", "kerasft", "train", f"--data=folder:{options.shared / 'data' / options.set}"]
    line += [f"--run_dir={folder / 'run'}", f"--export_dir={folder / 'saved_models'}", f"--seed={options.seed}"]
    line += as_flags(*recipe, options.shared / "weights")
    seconds = call(line, folder)
    metrics = json.loads((folder / "run" / "metrics.json").read_text())
    kept = metrics["phases"][-1]["share"]
    return {
        "arrays": arrays(folder / "run"),
        "validation": metrics["val"]["loss"],
        "seconds": seconds,
        "kept": f"{kept:g}" if kept else "undone",
    }


def arrays(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "predictions.npz") as stored:
        return dict(stored)


def training_suspects(folder: Path) -> Path:
    """A list for --exclude of the training images that a run suspects. Validation and test stay as they are."""
    with (folder / "suspects.csv").open(newline="") as table:
        paths = [row["path"] for row in csv.DictReader(table) if row["path"].startswith("train/")]
    listed = folder / "training_suspects.txt"
    listed.write_text("\n".join(paths))
    return listed


def signed(found: paired.Difference, digits: int, factor: float = 1) -> str:
    return f"{found.value * factor:+.{digits}f} ({found.low * factor:+.{digits}f} to {found.high * factor:+.{digits}f})"


def show(name: str, row: dict[str, Any], before: dict[str, Any] | None, stays: str = "") -> None:
    found = row["arrays"]
    right = found["probabilities"].argmax(-1) == found["labels"]
    low, high = intervals.wilson(int(right.sum()), len(right))
    gap = paired.compare("single_label", before["arrays"], found) if before else None
    cells = [name, f"{right.mean():.1%} ({low:.1%} to {high:.1%})", signed(gap.score, 1, 100) if gap else ""]
    cells += [f"{found['losses'].mean():.3f}", signed(gap.loss, 3) if gap else ""]
    cells += [f"{row['validation']:.3f}" if row["validation"] is not None else "", stays, row["kept"]]
    print(f"| {' | '.join([*cells, format(row['seconds'], '.0f')])} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--set", default="flowers5")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=20, help="of the longer recipe")
    parser.add_argument("--guide", type=Path, metavar="FILE", help="run the guide's recipe alone")
    options = parser.parse_args()
    options.shared, options.out = options.shared.resolve(), options.out.resolve()
    if options.guide:
        weights = options.shared / "weights" / keras_guide.WEIGHTS
        keras_guide.guide(options.shared / "data" / options.set, weights, options.seed, 10, options.guide)
        return
    titles = "recipe | test accuracy, % | difference, points | log loss | difference | validation loss | stays | kept | CPU s"
    print(f"| {titles} |\n|{' --- |' * (titles.count('|') + 1)}")
    guide = run_guide(options, options.out / "0-guide")
    show("the keras.io guide", guide, None)
    recipe = (START, FINE_TUNING)
    best = run("1-guide-as-flags", recipe, options)
    show("the same, as flags of kerasft", best, guide)
    suspects = training_suspects(options.out / "1-guide-as-flags" / "run")
    for number, way in enumerate(ways(options.epochs, suspects), start=2):
        added = ({**recipe[0], **way.flags}, {**recipe[1], **way.fine_tuning})
        words = "".join(letter if letter.isalnum() else "-" for letter in way.name)
        row = run(f"{number}-{words}", added, options)
        stays = row["validation"] < best["validation"]
        show(f"+ {way.name}", row, best, "yes" if stays else "no")
        if stays:
            recipe, best = added, row
    show("**all that stay, beside the guide**", best, guide)
    print("\n    kerasft train --data=... " + " ".join(map(repr, as_flags(*recipe, Path("WEIGHTS")))))


if __name__ == "__main__":
    main()
