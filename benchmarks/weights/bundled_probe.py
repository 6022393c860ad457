"""Do the bundled features tell more than random ones? Linear probes on frozen features, the same images for each.

Features are pooled, standardised however small they are (those of a random MobileNet shrink to 1e-18, and `--phases=head`
rightly calls them dead), and classified by logistic regression, its penalty by cross-validation. Random weights are
drawn anew for each draw of training examples. ImageNet's weights stand beside them where --shared has them.

    python benchmarks/weights/bundled_probe.py [--shared=../shared] [--draws=5]
"""

import argparse
import warnings
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from sklearn.linear_model import LogisticRegressionCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kerasft.data import sources
from kerasft.data.decode import decode_batch
from kerasft.networks import backbones, bundled
from kerasft.settings.config import Config

IMAGENET = "weights/mobilenet_0.25_224_no_top.h5"


def load_images(data: str, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """uint8 [N, size, size, 3], labels [N], and the split of each image, empty where there is none."""
    listing = sources.load(Config(data=data))
    batches = [range(i, min(i + 64, len(listing.ids))) for i in range(0, len(listing.ids), 64)]
    return (
        np.concatenate([decode_batch(tf.constant([listing.read(i) for i in b]), size, "crop") for b in batches]),
        listing.labels,
        listing.split_names,
    )


def features(weights: str, images: np.ndarray, seed: int) -> np.ndarray:
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    trunk = backbones.load(bundled.BACKBONE, weights, images.shape[1]).model
    maps = [trunk.predict_on_batch(images[i : i + 64].astype(np.float32)) for i in range(0, len(images), 64)]
    return np.concatenate(maps).mean((1, 2), dtype=np.float64)


def accuracy(values: np.ndarray, labels: np.ndarray, train: np.ndarray, test: np.ndarray) -> float:
    probe = LogisticRegressionCV(
        Cs=np.logspace(-3, 1, 5), cv=5, max_iter=2000, l1_ratios=(0,), use_legacy_attributes=False
    )
    fitted = make_pipeline(StandardScaler(), probe).fit(values[train] / values[train].std(), labels[train])
    return fitted.score(values[test] / values[train].std(), labels[test])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path)
    parser.add_argument("--draws", type=int, default=5)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # of logistic regressions that stop early
    kinds = {"random": "none", "bundled": "bundled"}
    tasks = [("digits", 64, k) for k in (5, 10, 50)]
    if options.shared:
        kinds["ImageNet"] = str(options.shared / IMAGENET)
        tasks += [(f"folder:{options.shared / 'data' / name}", 96, None) for name in ("hymenoptera", "flowers5")]
    print(f"| data | {' | '.join(kinds)} |\n{'| --- ' * (1 + len(kinds))}|")
    for data, size, limit in tasks:
        images, labels, parts = load_images(data, size)
        scores = {kind: [] for kind in kinds}
        fixed = {kind: features(weights, images, 0) for kind, weights in kinds.items() if kind != "random"}
        for draw in range(options.draws):
            order = np.random.default_rng(draw).permutation(len(labels))
            train, test = np.flatnonzero(parts == "train"), np.flatnonzero(parts == "test")
            if limit:
                train = np.concatenate([order[labels[order] == c][:limit] for c in np.unique(labels)])
                test = np.setdiff1d(order, train)
            for kind, values in {"random": features("none", images, draw), **fixed}.items():
                scores[kind].append(accuracy(values, labels, train, test))
        cells = [f"{np.mean(values):.3f} ({min(values):.3f} - {max(values):.3f})" for values in scores.values()]
        name = f"{data.rpartition('/')[2]}, {size} px" + (f", {limit} a class" if limit else "")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
