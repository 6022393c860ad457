"""The probe's penalty with few examples: the strongest of those whose folds do nearly as well, against the one of the luckiest folds.

Solves the last layer on frozen features of some training images of each class, drawn several times, and scores all test images:
mean log loss and accuracy for each number of standard errors that `linear_probe.PENALTY_STANDARD_ERRORS` allows.

    python benchmarks/training/probe_penalty.py --shared=../shared [--sets=flowers5,hymenoptera] [--draws=6]
"""

import argparse
from pathlib import Path

import numpy as np
from default_vs_probe import WEIGHTS
from scipy.special import log_softmax

from kerasft.data import audit, pipeline, sources, splits
from kerasft.evaluation import scoring
from kerasft.networks import network as networks
from kerasft.probes import linear_probe
from kerasft.settings.config import Config

COUNTS, PENALTY_STANDARD_ERRORS = (5, 10, 20, 40, 80), (0.0, 0.5, 1.0)


def features(data: Path, backbone: str, weights: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """What reaches the last layer, float32 [N, D], and labels of the training and test images."""
    config = Config(data=f"folder:{data}", backbone=backbone, weights=str(weights))
    listing = sources.load(config)
    network = networks.build(config, len(listing.classes), listing.task)
    held = audit.make_memory_store(len(listing.ids), network.size)
    made = splits.make_splits(*audit.audit(listing, network.size, lambda count: None, held), 0.2, 0.2, 0)
    predict, found = scoring.make_predictor(network.model_before("standardise")), {}
    for part in ("train", "test"):
        split = getattr(made, part)
        found[part] = predict(pipeline.evaluation_stream(split, size=network.size, batch_size=64)), split.labels
    return found


def scores(found: dict, count: int, draw: int) -> list[tuple[float, float]]:
    """Log loss and accuracy on the test images for each of `PENALTY_STANDARD_ERRORS`."""
    (inputs, labels), (others, expected) = found["train"], found["test"]
    rng, classes = np.random.default_rng(draw), int(labels.max()) + 1
    rows = np.concatenate([rng.permutation(np.flatnonzero(labels == label))[:count] for label in range(classes)])
    mean, variance = inputs[rows].mean(0), inputs[rows].var(0)
    scale = np.sqrt(np.maximum(variance, max(0.01 * variance.mean(), 1e-12)))
    results = []
    for near in PENALTY_STANDARD_ERRORS:
        linear_probe.PENALTY_STANDARD_ERRORS = near
        solved = linear_probe.solve((inputs[rows] - mean) / scale, labels[rows], classes, "single_label", draw)
        logits = (others - mean) / scale @ solved.kernel + solved.bias
        losses = -log_softmax(logits.astype(np.float64), -1)[np.arange(len(expected)), expected]
        results.append((losses.mean(), (logits.argmax(-1) == expected).mean()))
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--sets", default="flowers5,hymenoptera")
    parser.add_argument("--backbones", default=";".join(WEIGHTS), help="separated by ;")
    parser.add_argument("--draws", type=int, default=6)
    options = parser.parse_args()
    print(
        "| data | backbone | images a class | "
        + " | ".join(f"within {near:g} errors" for near in PENALTY_STANDARD_ERRORS)
        + " |"
    )
    print("| --- | --- | --- |" + " --- |" * len(PENALTY_STANDARD_ERRORS), flush=True)
    for data in options.sets.split(","):
        for backbone in options.backbones.split(";"):
            weights = options.shared / "weights" / WEIGHTS[backbone]
            found = features((options.shared / "data" / data).resolve(), backbone, weights)
            for count in COUNTS:
                means = np.mean([scores(found, count, draw) for draw in range(options.draws)], axis=0)
                cells = [f"{loss:.3f} / {accuracy:.3f}" for loss, accuracy in means]
                print("| " + " | ".join([data, backbone, str(count), *cells]) + " |", flush=True)


if __name__ == "__main__":
    main()
