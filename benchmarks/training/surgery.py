"""What each surgery does to pretrained features: a solved head before fine-tuning, and all layers trained for a few epochs.

One run for each surgery, in one process, with one seed. The head sees the last layer. Validation figures are after the
solved head and after the second phase, whose weights are kept wholly, in part or not at all (`alpha`). flowers5 has 38
steps an epoch, so a blend of 38 steps takes half of the two epochs.

    python benchmarks/training/surgery.py --shared=../shared --out=OUT [--set=flowers5] [--epochs=2] [--image_size=96]
        [--surgeries='none; activation(relu=swish); activation(relu=swish, blend=38)'] [--per_class_limit=20]
"""

import argparse
import shutil
from pathlib import Path

from default_vs_probe import WEIGHTS

SURGERIES = (
    "none",
    "activation(relu=relu)",
    "activation(relu=leaky_relu)",
    "activation(relu=PReLU)",
    "activation(relu=gelu)",
    "activation(relu=swish)",
    "activation(relu=swish, blend=38)",
    "activation(relu=swish, blocks=0.5)",
    "activation(relu=swish, blocks=0.5, blend=38)",
    "prune(0.1)",
    "prune(0.3)",
    "truncate(0.8)",
)


def measure(data: Path, weights: Path, surgery: str, out: Path, options: argparse.Namespace) -> str:
    """A row of the table: one run with a surgery."""
    import keras

    from kerasft.job import train
    from kerasft.settings.config import Config

    keras.backend.clear_session()
    folder = out / "".join(c if c.isalnum() else "_" for c in surgery)
    shutil.rmtree(folder, ignore_errors=True)
    config = Config(
        data=f"folder:{data}",
        backbone=options.backbone,
        weights=str(weights),
        surgery=surgery,
        features="last",
        framing="crop",
        image_size=options.image_size,
        per_class_limit=options.per_class_limit,
        augment="crop(area=(0.35, 1)) | flip",
        phases=f"head | all(epochs={options.epochs}, lr=1e-3, batch_norm='train')",
        precision="float32",
        jit="off",
        batch_size=32,
        run_dir=str(folder / "run"),
        export_dir=str(folder / "saved_models"),
        tensorboard=False,
        warmup=False,
    )
    metrics = train.train(config).metrics
    solved, trained = metrics["phases"]
    changed = metrics["settled"].get("surgery", [])
    shares = [f"{changed[0][key][1] / changed[0][key][0]:.2f}" if changed else "1.00" for key in ("parameters", "macs")]
    shutil.rmtree(folder)
    figures = [
        f"{solved['val_accuracy_after']:.3f}",
        f"{solved['val_after']:.3f}",
        f"{trained['val_accuracy_after']:.3f}",
        f"{trained['val_after']:.3f}",
        f"{trained['share']:g}",
        f"{metrics['test']['accuracy']:.3f}",
        f"{metrics['test']['loss']:.3f}",
    ]
    return "| " + " | ".join([f"`{surgery}`", *shares, *figures]) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for the table, and for the runs, which are removed again"
    )
    parser.add_argument("--set", default="flowers5")
    parser.add_argument("--backbone", default="MobileNet(alpha=0.25)")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--image_size", type=int, default=96)
    parser.add_argument("--surgeries", default=";".join(SURGERIES), help="separated by ;")
    parser.add_argument("--per_class_limit", type=int, help="training images of each class; by default all")
    options = parser.parse_args()
    shared = options.shared.resolve()
    columns = ("surgery", "parameters", "multiplications", "solved: accuracy", "log loss")
    columns += ("trained: accuracy", "log loss", "alpha", "test accuracy", "log loss")
    table = options.out / "table.md"
    options.out.mkdir(parents=True, exist_ok=True)
    table.write_text(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}\n")
    for surgery in map(str.strip, options.surgeries.split(";")):
        weights = shared / "weights" / WEIGHTS[options.backbone]
        row = measure(shared / "data" / options.set, weights, surgery, options.out, options)
        with table.open("a") as file:
            file.write(f"{row}\n")
    print(table.read_text())


if __name__ == "__main__":
    main()
