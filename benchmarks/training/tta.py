"""`--tta`: what averaging over mirror images gives on validation, where `auto` decides, and on the test images.

Trains with default settings through the command, for every set, weights file and seed. Then `model.keras` answers all
validation and test images and their mirror images.

    python benchmarks/training/tta.py --shared=../shared --out=/tmp/tta [--sets=hymenoptera,flowers5] [--seeds=0,1]
"""

import argparse
import itertools
import tempfile
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
from default_vs_probe import run

from kerasft.data import pipeline, sources
from kerasft.evaluation import scoring
from kerasft.evaluation.scoring import Scorer
from kerasft.job import audited_splits
from kerasft.settings.config import Config
from kerasft.training import tta_choice


def outputs(data: Path, seed: int, folder: Path, framing: str) -> dict[str, tuple[Scorer, np.ndarray, np.ndarray]]:
    """The Scorer of val and test, the logits for their images, and the means with those for mirror images."""
    config = Config(data=f"folder:{data}", seed=seed)
    listing = replace(sources.load(config), framing=framing)
    model = keras.models.load_model(folder / "model.keras", compile=False)
    predict, size = scoring.make_predictor(model), model.inputs[0].shape[1]
    with tempfile.TemporaryDirectory() as place:
        made = audited_splits.audit_and_split(config, listing, size, Path(place))
    found = {}
    for part in ("val", "test"):
        split = getattr(made, part)
        images = pipeline.evaluation_stream(split, size=size, batch_size=64)
        plain, mirrored = predict(images), predict(images.map(lambda batch: batch[:, :, ::-1]))
        found[part] = Scorer("single_label", split.labels), plain, (plain + mirrored) / 2
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", default="hymenoptera,flowers5")
    parser.add_argument("--backbones", default="MobileNet(alpha=0.25);MobileNetV2(alpha=0.35)", help="parted by ;")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--recipe", default="default", help="of benchmarks/training/default_vs_probe.py")
    options = parser.parse_args()
    gains = []
    seeds = [int(seed) for seed in options.seeds.split(",")]
    for data, backbone, seed in itertools.product(options.sets.split(","), options.backbones.split(";"), seeds):
        metrics, _ = run(options.shared, options.out, data, backbone, seed, options.recipe)
        folder = options.out / f"{data}-{backbone}-{seed}-{options.recipe}"
        found = outputs(options.shared / "data" / data, seed, folder, metrics["framing"])
        chosen = tta_choice.choose("auto", *found["val"])
        scorer, plain, averaged = found["test"]
        gap = scorer.losses(averaged) - scorer.losses(plain)
        gains.append((chosen.tta == "flip", gap.mean(), scorer.score(averaged) - scorer.score(plain)))
        val = [row["loss"] for row in chosen.table]
        print(
            f"{data} {backbone} {seed}: val {val[0]:.3f} {val[1] - val[0]:+.4f}, auto {chosen.tta}; test log loss "
            f"{scorer.loss(plain):.3f} {gap.mean():+.4f} ± {gap.std(ddof=1) / len(gap) ** 0.5:.4f}, "
            f"accuracy {scorer.score(plain):.3f} {gains[-1][2]:+.4f}",
            flush=True,
        )
    values = np.array(gains, np.float64)
    print(f"always flip: log loss {values[:, 1].mean():+.4f}, accuracy {values[:, 2].mean():+.4f}")
    taken = values[:, :1] * values[:, 1:]
    print(
        f"auto (flip in {values[:, 0].mean():.0%}): log loss {taken[:, 0].mean():+.4f}, accuracy {taken[:, 1].mean():+.4f}"
    )


if __name__ == "__main__":
    main()
