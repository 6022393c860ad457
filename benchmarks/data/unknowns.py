"""`--abstain`: the share of foreign images that each score flags, at the threshold that validation gives.

Trains a head on flowers5 through the library. `model.keras` then answers its images and those of the other sets, which
have no flower as a class. The Mahalanobis distance (Lee et al. 2018) is computed here for comparison; kerasft does not serve it.

    python benchmarks/data/unknowns.py --shared=../shared --out=/tmp/unknowns [--keep=0.95]
"""

import argparse
from pathlib import Path

import keras
import numpy as np
from sklearn.covariance import ledoit_wolf

from kerasft.data import sources
from kerasft.data.decode import decode_batch
from kerasft.data.listing import Listing
from kerasft.evaluation import novelty, scoring
from kerasft.job import train
from kerasft.networks import heads
from kerasft.settings.config import Config

WEIGHTS = {
    "MobileNet(alpha=0.25)": "mobilenet_0.25_224_no_top.h5",
    "MobileNet(alpha=0.75)": "mobilenet_0.75_224_no_top.h5",
    "MobileNetV2(alpha=0.35)": "mobilenet_v2_0.35_224_no_top.h5",
}
FOREIGN = ("hymenoptera", "hands10")


def mahalanobis(features: np.ndarray, labels: np.ndarray):
    """The squared distance to the nearest class mean under one shrunk covariance, a function of features [N, D]."""
    mean, deviation = features.mean(0), features.std(0)
    scale = 1 / np.maximum(deviation, 0.01 * deviation.mean())
    centres = np.stack([((features - mean) * scale)[labels == label].mean(0) for label in np.unique(labels)])
    covariance, _ = ledoit_wolf((features - mean) * scale - centres[labels], assume_centered=True)
    values, vectors = np.linalg.eigh(covariance)

    def squares(given: np.ndarray) -> np.ndarray:
        projected = ((given - mean) * scale) @ vectors
        return np.min([((projected - centre @ vectors) ** 2 / values).sum(-1) for centre in centres], 0)

    return squares


def answers(folder: Path, listing: Listing, framing: str) -> tuple[np.ndarray, np.ndarray]:
    """Features of the last depth and logits of all images of a listing, float32 [N, D] and [N, C]."""
    model = keras.models.load_model(folder / "model.keras", compile=False)
    last, size = heads.last_depth(model), model.inputs[0].shape[1]
    predict = [scoring.make_predictor(keras.Model(model.inputs[0], one)) for one in (last, model.outputs[0])]
    batches = [
        decode_batch([listing.read(row) for row in range(start, min(start + 64, len(listing.ids)))], size, framing)
        for start in range(0, len(listing.ids), 64)
    ]
    images = [np.asarray(batch, np.float32) for batch in batches]
    return predict[0](images), predict[1](images)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--keep", type=float, default=0.95)
    parser.add_argument("--backbone", choices=WEIGHTS, default="MobileNet(alpha=0.25)")
    options = parser.parse_args()
    settings = {"backbone": options.backbone, "weights": str(options.shared / "weights" / WEIGHTS[options.backbone])}
    settings |= {"phases": "head", "tensorboard": False, "run_dir": str(options.out / "run")}
    settings |= {"export_dir": str(options.out / "exports"), "data": f"folder:{options.shared / 'data' / 'flowers5'}"}
    config = Config(**settings)
    run = train.train(config)
    listing = sources.load(config)
    framing = run.metrics["framing"]
    known = answers(run.folder, listing, framing)
    rows = {part: np.flatnonzero(listing.split_names == part) for part in ("train", "val", "test")}
    given = {part: [values[places] for values in known] for part, places in rows.items()}
    for name in FOREIGN:
        foreign = sources.load(Config(data=f"folder:{options.shared / 'data' / name}"))
        given[name] = answers(run.folder, foreign, framing)
    features = given["train"][0]
    squares = mahalanobis(features.astype(float), listing.labels[rows["train"]])
    neighbours = novelty.unit_length(features)
    scores = {
        "energy": lambda features, outputs: novelty.energy(outputs),
        "mahalanobis": lambda features, outputs: squares(features.astype(float)),
        "distance": lambda features, outputs: novelty.distance(neighbours, features),
    }
    print(f"| score | test images kept | {' | '.join(f'{name} flagged' for name in FOREIGN)} |")
    print("| --- |" + " --- |" * (1 + len(FOREIGN)))
    for name, score in scores.items():
        threshold = novelty.fit_threshold(score(*given["val"]), options.keep)
        kept = float((score(*given["test"]) <= threshold).mean())
        flagged = [float((score(*given[name]) > threshold).mean()) for name in FOREIGN]
        print(f"| {name} | {kept:.1%} | {' | '.join(f'{share:.1%}' for share in flagged)} |", flush=True)


if __name__ == "__main__":
    main()
