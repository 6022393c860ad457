"""Deletion and insertion of Grad-CAM and Layer-CAM against random maps and maps of other images, on test images.

Trains each set through the library: with ImageNet weights and `--phases`, and with random weights only a head on them. Checks
the maps of each network as `kerasft explain` does, on more images. Less is better for deletion, more for insertion.

    python benchmarks/data/maps.py --shared=../shared --out=/tmp/maps [--images=60] [--sets=hymenoptera,flowers5] [--phases=auto]
"""

import argparse
from pathlib import Path

import numpy as np

from kerasft.data import pipeline
from kerasft.job import finished_run, heat_map_check, train
from kerasft.networks import class_activation
from kerasft.settings.config import Config

BACKBONE, WEIGHTS = "MobileNet(alpha=0.25)", "mobilenet_0.25_224_no_top.h5"


def _cells(figures: dict, key: str) -> list[str]:
    """Means and differences with their intervals, of deletion and insertion."""
    cells = []
    for measure in ("deletion", "insertion"):
        row = figures[key][measure]
        cells += [
            f"{row['maps']:.3f}",
            f"{row['others']:.3f}",
            f"{row['value']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})",
        ]
    return cells


def _check(folder: Path, count: int) -> tuple[dict, dict]:
    opened = finished_run.reopen(str(folder))
    model, task, test = opened.network.model, opened.network.task, opened.splits.test
    rows = np.sort(np.random.default_rng(0).choice(len(test), min(count, len(test)), replace=False))
    images = pipeline.decoded_images(test, rows, opened.network.size).astype(np.float32)
    methods = class_activation.find_methods(model, task).found
    return heat_map_check.check(heat_map_check.make_answers(model, task), methods, images, task)[0], methods


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--sets", default="hymenoptera,flowers5")
    parser.add_argument("--phases", default="auto")
    options = parser.parse_args()
    heads = ["set", "weights", "test accuracy", "maps", "against"]
    for measure in ("deletion", "insertion"):
        heads += [f"{measure}: maps", "others", "difference (95 %)"]
    lines = [f"| {' | '.join([*heads, 'verdict'])} |", "| --- " * (len(heads) + 1) + "|"]
    for name in options.sets.split(","):
        for weights, phases in (("imagenet", options.phases), ("random", "head")):
            path = "none" if weights == "random" else str(options.shared / "weights" / WEIGHTS)
            settings = {"backbone": BACKBONE, "weights": path, "phases": phases, "tensorboard": False, "seed": 11}
            settings |= {"run_dir": str(options.out / f"{name}_{weights}"), "export_dir": str(options.out / weights)}
            run = train.train(Config(data=f"folder:{options.shared / 'data' / name}", **settings))
            figures, methods = _check(run.folder, options.images)
            for key, method in methods.items():
                for others, verdict in (("random", "verdict"), ("other_images", "verdict_other")):
                    cells = [
                        name,
                        weights,
                        f"{run.metrics['test']['accuracy']:.3f}",
                        method.title,
                        others.replace("_", " "),
                    ]
                    cells += [*_cells(figures[key], f"against_{others}"), figures[key][verdict].replace("_", " ")]
                    lines.append(f"| {' | '.join(cells)} |")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
