"""`--coverage`: how often the served sets of labels hold the truth, over resplits of all images.

The images of all splits of a data set are pooled. Each seed draws train (60 %), validation (15 %) and test (25 %) anew, trains a head on
them and exports it. The bytes of the test images then go through `serving_default` of the SavedModel, and its `label_set` is counted.
Everything is drawn anew, not only validation against test: the promise is about the whole procedure, and validation also chooses the temperature.

    python benchmarks/data/conformal.py --shared=../shared --out=/tmp/conformal [--data=flowers5] [--coverage=0.9] [--splits=10]
"""

import argparse
import csv
from pathlib import Path

import numpy as np
import tensorflow as tf

from kerasft.job import train
from kerasft.settings.config import Config

WEIGHTS = "mobilenet_0.25_224_no_top.h5"
BATCH = 64


def write_table(data: Path, table: Path) -> None:
    """A table of all images with path and label, without their splits."""
    rows = [(path.as_posix(), path.parent.name) for path in sorted(data.glob("*/*/*.jp*g"))]
    table.parent.mkdir(parents=True, exist_ok=True)
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *rows])


def served(folder: str, paths: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """What `serving_default` answers to files: probabilities float32 [N, C] and label sets bool [N, C]."""
    loaded = tf.saved_model.load(folder)
    answer, probabilities, sets = loaded.signatures["serving_default"], [], []
    for start in range(0, len(paths), BATCH):
        contents = [Path(path).read_bytes() for path in paths[start : start + BATCH]]
        given = answer(image_bytes=tf.constant(contents))
        probabilities.append(given["probabilities"].numpy())
        sets.append(given["label_set"].numpy())
    return np.concatenate(probabilities), np.concatenate(sets)


def measure(config: Config) -> list[float]:
    """Accuracy, coverage, coverage of the worst class, mean set size and share of empty sets of one run on its test images."""
    run = train.train(config)
    with np.load(run.folder / "predictions.npz") as file:
        paths, labels = file["ids"].tolist(), file["labels"]
    probabilities, sets = served(run.metrics["export"]["path"], paths)
    held = sets[np.arange(len(labels)), labels]
    worst = min(held[labels == label].mean() for label in np.unique(labels))
    accuracy = (probabilities.argmax(-1) == labels).mean()
    return [accuracy, held.mean(), worst, sets.sum(-1).mean(), (~sets.any(-1)).mean()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", default="flowers5", help="a folder of single-label images in SHARED/data")
    parser.add_argument("--coverage", type=float, default=0.9)
    parser.add_argument("--splits", type=int, default=10)
    given = parser.parse_args()
    table = given.out / f"{given.data}.csv"
    write_table(given.shared.resolve() / "data" / given.data, table)
    settings = {"data": f"csv:{table}", "test_fraction": 0.25, "val_fraction": 0.2, "coverage": given.coverage}
    settings |= {"backbone": "MobileNet(alpha=0.25)", "weights": str(given.shared / "weights" / WEIGHTS)}
    settings |= {"phases": "head", "tensorboard": False, "warmup": False}
    rows = []
    print("| resplit | accuracy | coverage | worst class | labels in a set | empty sets |\n" + "| --- " * 6 + "|")
    for seed in range(given.splits):
        place = given.out / f"{given.data}-{seed}"
        config = Config(**settings, seed=seed, run_dir=str(place / "run"), export_dir=str(place / "exports"))
        rows.append(measure(config))
        print(line(str(seed), rows[-1]), flush=True)
    print(line("mean", np.mean(rows, 0)))
    if len(rows) > 1:
        print(line("standard deviation", np.std(rows, 0, ddof=1)))


def line(name: str, row: list[float] | np.ndarray) -> str:
    accuracy, coverage, worst, size, empty = row
    return f"| {name} | {accuracy:.1%} | {coverage:.1%} | {worst:.1%} | {size:.2f} | {empty:.1%} |"


if __name__ == "__main__":
    main()
