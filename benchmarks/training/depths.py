"""A head on several depths: the stacked probe against the probe of the last depth alone, on frozen features.

For each set, backbone and draw: log loss and accuracy on all test images, and the shares of the stack. `hands10:10` is ten
training images of each class, drawn three times. Nothing is trained.

    python benchmarks/training/depths.py --shared=../shared [--sets=flowers5,hymenoptera:10] [--draws=3]
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from default_vs_probe import WEIGHTS
from scipy.special import log_softmax

from kerasft.data import pipeline, sources
from kerasft.evaluation import scoring
from kerasft.job import audited_splits
from kerasft.networks import depths
from kerasft.networks import network as networks
from kerasft.probes import head_statistics, stacked_probe
from kerasft.settings.config import Config

SETS = "hymenoptera,flowers5,hands10,hymenoptera:10,hymenoptera:30,flowers5:5,flowers5:10,flowers5:30,hands10:5,hands10:10,hands10:30"


def features(data: Path, backbone: str, weights: Path) -> tuple[list[int], dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Channels of each depth, and pooled activations [N, D] with labels [N] of the training and test images."""
    config = Config(data=f"folder:{data}", framing="crop", backbone=backbone, weights=str(weights))
    listing = replace(sources.load(config), framing="crop")
    network = networks.build(config, len(listing.classes), listing.task)
    network = depths.with_depths(network, config, depths.find_depths(network))
    predict = scoring.make_predictor(network.model_before("standardise"))
    with tempfile.TemporaryDirectory() as place:
        made = audited_splits.audit_and_split(config, listing, network.size, Path(place))
    found = {}
    for part in ("train", "test"):
        split = getattr(made, part)
        found[part] = predict(pipeline.evaluation_stream(split, size=network.size, batch_size=32)), split.labels
    return depths.widths(network), found


def compare(widths: list[int], found: dict, count: int | None, draw: int) -> tuple[np.ndarray, list[float]]:
    """Log loss and accuracy [2, 2] of the last depth and of the stack, and the shares."""
    (inputs, labels), (others, expected) = found["train"], found["test"]
    rng, classes = np.random.default_rng(draw), int(labels.max()) + 1
    if count:
        rows = [rng.permutation(np.flatnonzero(labels == label))[:count] for label in range(classes)]
        inputs, labels = inputs[np.concatenate(rows)], labels[np.concatenate(rows)]
    mean, variance = head_statistics.statistics(inputs, widths)
    inputs, others = (((values - mean) / np.sqrt(variance)).astype(np.float32) for values in (inputs, others))
    results = []
    for seen in (widths[-1:], widths):
        width = sum(seen)
        stacked = stacked_probe.solve(inputs[:, -width:], seen, labels, classes, "single_label", 0)
        used = stacked.solution.kernel.shape[0]
        logits = (others[:, -used:] @ stacked.solution.kernel + stacked.solution.bias).astype(np.float64)
        loss = -log_softmax(logits, -1)[np.arange(len(expected)), expected].mean()
        results.append((loss, (logits.argmax(-1) == expected).mean()))
    return np.array(results), [row.share for row in stacked.rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--sets", default=SETS, help="NAME, or NAME:IMAGES of a class")
    parser.add_argument("--backbones", default="MobileNet(alpha=0.25);MobileNetV2(alpha=0.35)", help="parted by ;")
    parser.add_argument("--draws", type=int, default=3)
    options = parser.parse_args()
    cases, kept = [], {}
    for data in options.sets.split(","):
        name, _, count = data.partition(":")
        for backbone in options.backbones.split(";"):
            if (name, backbone) not in kept:
                given = options.shared / "data" / name, backbone, options.shared / "weights" / WEIGHTS[backbone]
                kept[name, backbone] = features(*given)
            for draw in range(options.draws if count else 1):
                results, shares = compare(*kept[name, backbone], int(count) if count else None, draw)
                loss, accuracy = results[1] - results[0]
                cases.append((bool(count), loss, accuracy))
                print(
                    f"{data} {backbone} {draw}: last {results[0][0]:.3f} {results[0][1]:.3f}, "
                    f"stack {loss:+.3f} {accuracy:+.3f}, shares {shares}",
                    flush=True,
                )
    for few, title in ((False, "all images"), (True, "subsets")):
        chosen = np.array([case[1:] for case in cases if case[0] == few])
        if len(chosen):
            loss, accuracy = chosen.mean(0)
            print(f"{title}: log loss {loss:+.4f} (worst {chosen[:, 0].max():+.3f}), accuracy {accuracy:+.4f}")


if __name__ == "__main__":
    main()
