"""Corruptions: what a network keeps of its accuracy on flowers5, by how it was trained.

Trains through the library with `--robustness`: a head on the frozen backbone, all layers with the default augmentation, with AugMix
(`--augment=augmix`, without the paper's Jensen-Shannon loss), and with noise (`--augment=noise`). Each row is a run of its own. A phase
that does not lower the validation loss is undone, as ever; "kept" is the share of the last phase that was kept. A run that is finished is only read.

    python benchmarks/data/corruptions.py --shared=../shared --out=/tmp/corruptions --rows=head --limit=60 --level=full
    python benchmarks/data/corruptions.py --shared=../shared --out=/tmp/augmix [--level=quick] [--seeds=0]
"""

import argparse
from pathlib import Path

import numpy as np

from kerasft.job import train
from kerasft.settings.config import Config

WEIGHTS = "mobilenet_0.25_224_no_top.h5"
DEFAULT_AUGMENT = "crop(area=(0.35, 1)) | flip"


# The settings of each row.
ROWS = {
    "head": {"phases": "head(epochs=0)", "augment": "none"},
    "auto": {"phases": "auto", "augment": DEFAULT_AUGMENT},
    "auto, augmix": {"phases": "auto", "augment": f"{DEFAULT_AUGMENT} | augmix"},
    "auto, noise": {"phases": "auto", "augment": f"{DEFAULT_AUGMENT} | noise(0.2)"},
}


def table(heads: list[str], rows: list[list[str]]) -> None:
    print("\n| " + " | ".join(heads) + " |")
    print("| --- |" + " --- |" * (len(heads) - 1))
    for row in rows:
        print("| " + " | ".join(row) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", default=";".join(ROWS), help="parted by ;")
    parser.add_argument("--limit", type=int, default=240, help="training images of a class")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--level", default="quick", choices=("quick", "full"))
    given = parser.parse_args()
    settings = {"backbone": "MobileNet(alpha=0.25)", "weights": str(given.shared / "weights" / WEIGHTS)}
    settings |= {"data": f"folder:{given.shared / 'data' / 'flowers5'}", "per_class_limit": given.limit}
    settings |= {"tensorboard": False, "warmup": False, "robustness": given.level, "features": "last"}
    settings |= {"export_dir": str(given.out / "exports"), "precision": "float32", "framing": "crop"}
    found: dict[str, list[dict]] = {}
    for name in given.rows.split(";"):
        for seed in map(int, given.seeds.split(",")):
            folder = given.out / f"{name.replace(', ', '-').replace(' ', '-')}-{seed}"
            config = Config(**settings, **ROWS[name], seed=seed, run_dir=str(folder))
            found.setdefault(name, []).append(train.train(config).metrics)

    def mean(rows: list[dict], get) -> float:
        return float(np.mean([get(row) for row in rows]))

    first = next(iter(found.values()))[0]
    corruptions = list(first["robustness"])
    lines = [
        [
            name,
            f"{mean(rows, lambda row: row['robustness_summary']['clean']):.3f}",
            f"{mean(rows, lambda row: row['robustness_summary']['mean']):.3f}",
            *(f"{mean(rows, lambda row, c=c: np.mean(row['robustness'][c])):.3f}" for c in corruptions),
            ", ".join(f"{row['phases'][-1]['share']:.2f}" for row in rows),
        ]
        for name, rows in found.items()
    ]
    names = [name.replace("_", " ") for name in corruptions]
    table(["trained", "clean", "mean", *names, "kept"], lines)
    name, rows = next(iter(found.items()))
    print(f"\n{name}, by strength:")
    table(
        ["strength", "1", "2", "3", "4", "5"],
        [
            [
                name.replace("_", " "),
                *(f"{mean(rows, lambda row, c=name, k=k: row['robustness'][c][k]):.3f}" for k in range(5)),
            ]
            for name in corruptions
        ],
    )
    if "attacks" in first:
        lines = []
        for name, rows in found.items():
            figures = [mean(rows, lambda row: row["attacks"]["clean"])]
            figures += [
                mean(rows, lambda row, a=a, k=k: row["attacks"][a][k]) for a in ("fgsm", "pgd") for k in range(3)
            ]
            lines.append([name, *(f"{value:.2f}" for value in figures)])
        heads = [f"{attack} {epsilon}/255" for attack in ("FGSM", "PGD") for epsilon in first["attacks"]["epsilons"]]
        table(["trained", "clean", *heads], lines)


if __name__ == "__main__":
    main()
