"""Framing: crop, squash and pad on images that are not square, and what the bars of pad are filled with.

Solves the last layer on frozen features of the training images, scores it by five folds and on the held-out images of the set, and says
which framing `--framing=auto` takes: log loss, accuracy, the difference of the folds' loss from crop with its standard error. Then the
same choice on a few training images, drawn several times, and what it costs on the held-out ones.

    python benchmarks/data/framing.py --shared=../shared [--sets=hymenoptera] [--backbones='MobileNet(alpha=0.25)']
"""

import argparse
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import tensorflow as tf

from kerasft.data import audit, framing, pipeline, sources, splits
from kerasft.data.framing import FRAMINGS, Framing
from kerasft.evaluation import scoring
from kerasft.evaluation.scoring import Scorer
from kerasft.networks import network as networks
from kerasft.probes import framing_choice, linear_probe
from kerasft.settings.config import Config

WEIGHTS = {
    "MobileNet(alpha=0.25)": "mobilenet_0.25_224_no_top.h5",
    "MobileNet(alpha=0.75)": "mobilenet_0.75_224_no_top.h5",
}
GREYS = {"pad, black": 0, "pad, white": 255}


def edges(image: tf.Tensor, size: int, orientation: tf.Tensor | int = 1) -> tf.Tensor:
    """The image as under pad; the bars repeat its outermost pixels."""
    padded, extent = framing.pad(image, size, orientation), tf.cast(tf.shape(image)[:2], tf.int64)
    longer = tf.reduce_max(extent)
    inside = tf.cast(tf.maximum((2 * size * extent + longer) // (2 * longer), 1), tf.int32)
    first = (size - inside) // 2
    rows, columns = (tf.clip_by_value(tf.range(size), first[i], first[i] + inside[i] - 1) for i in (0, 1))
    return tf.ensure_shape(tf.gather(tf.gather(padded, rows), columns, axis=1), [size, size, 3])


def features(predict: scoring.Predictor, split: splits.Split, way: str, size: int) -> np.ndarray:
    """What reaches the last layer, float32 [N, D]."""
    framing.PADDING = GREYS.get(way, 114)
    return predict(pipeline.evaluation_stream(replace(split, framing=way), size=size, batch_size=64))


def standardised(inputs: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean, variance = inputs.mean(0), inputs.var(0)
    scale = np.sqrt(np.maximum(variance, max(0.01 * variance.mean(), 1e-12)))
    return (inputs - mean) / scale, (others - mean) / scale


def probed(found: dict, rows: np.ndarray, seed: int) -> tuple[np.ndarray, float, np.ndarray]:
    """Probes on some training images: losses and accuracy of the folds, and what is said of the held-out images."""
    inputs, others = standardised(found["inputs"][rows], found["others"])
    labels, classes = found["labels"][rows], found["classes"]
    folds, accuracy = linear_probe.cross_validate(inputs, labels, classes, "single_label", seed)
    solved = linear_probe.solve(inputs, labels, classes, "single_label", seed)
    return folds.losses, accuracy, others @ solved.kernel + solved.bias


def chosen(losses: dict[str, np.ndarray]) -> str:
    order = framing_choice.CANDIDATES
    return order[scoring.one_standard_error_rule([losses[way] for way in order])]


def measure(data: Path, backbone: str, weights: Path, draws: int) -> None:
    config = Config(data=f"folder:{data}", backbone=backbone, weights=str(weights))
    listing = sources.load(config)
    network = networks.build(config, len(listing.classes), listing.task)
    checked, _ = audit.audit(listing, 32, lambda count: None, None)
    made = splits.make_splits(checked, None, 0.2, 0.2, 0)
    predict, found, losses = scoring.make_predictor(network.model_before("standardise")), {}, {}
    train, held = made.train, np.concatenate([made.val.labels, made.test.labels])
    for way in FRAMINGS:
        others = np.concatenate([features(predict, part, way, network.size) for part in (made.val, made.test)])
        inputs = features(predict, train, way, network.size)
        found[way] = {"inputs": inputs, "others": others, "labels": train.labels, "classes": len(made.classes)}
        losses[way], accuracy, answers = probed(found[way], np.arange(len(train)), 0)
        gap, scorer = losses[way] - losses["crop"], Scorer(made.task, held)
        print(
            f"{data.name} {backbone} {way}: folds {losses[way].mean():.3f} {accuracy:.3f} "
            f"({gap.mean():+.3f} +- {gap.std(ddof=1) / np.sqrt(len(gap)):.3f}), "
            f"{len(held)} held out {scorer.loss(answers):.3f} {scorer.score(answers):.3f}",
            flush=True,
        )
    print(f"{data.name} {backbone} auto: {chosen(losses)}")
    for count in (40, 80):
        counts, costs = Counter(), []
        for draw in range(draws):
            rows = np.sort(np.random.default_rng(draw).permutation(len(train))[:count])
            tried = {way: probed(found[way], rows, draw) for way in framing_choice.CANDIDATES}
            way = chosen({name: one[0] for name, one in tried.items()})
            counts[way] += 1
            costs.append(scorer.loss(tried[way][2]) - scorer.loss(tried["crop"][2]))
        print(
            f"{data.name} {backbone} auto on {count} images: {dict(counts)}, held-out loss {np.mean(costs):+.3f} to crop's"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--sets", default="hymenoptera")
    parser.add_argument("--backbones", default=";".join(WEIGHTS), help="parted by ;")
    parser.add_argument("--draws", type=int, default=20, help="of a few training images, for the choice on these")
    given = parser.parse_args()
    FRAMINGS.update({way: Framing(framing.pad, tf.reduce_max) for way in GREYS})
    FRAMINGS["pad, edges"] = Framing(edges, tf.reduce_max)
    for name in given.sets.split(","):
        for backbone in given.backbones.split(";"):
            measure(given.shared / "data" / name, backbone, given.shared / "weights" / WEIGHTS[backbone], given.draws)


if __name__ == "__main__":
    main()
