"""Where training starts: the features' statistics, the head's first weights, and `--augment=auto` settled."""

import time
from typing import NamedTuple

import keras
import numpy as np

from kerasft import evaluate, heads, screen
from kerasft import spec as specs
from kerasft.config import Config
from kerasft.data import pipeline
from kerasft.data.splits import Split, Splits
from kerasft.model import Network

BATCH = 64
MIRROR_COST = 1.25  # greatest rise of a probe's loss on mirrored pictures at which mirroring is harmless


class Start(NamedTuple):
    """What `prepare` found.

    Attributes:
        solution: kernel [D, C] and bias [C] of the probe, where `--head_init` asks for it.
        augment: the `--augment` Spec, settled.
        seconds: that it took.
    """

    solution: tuple[np.ndarray, np.ndarray] | None
    augment: str
    seconds: float


def prepare(config: Config, network: Network, splits: Splits) -> Start:
    """Sets the features' statistics and a `prior`; solves the probe, which also tells whether mirroring is harmless."""
    started = time.monotonic()
    embed = _embedder(network)
    inputs = embed(splits.train, 1)
    wanted, automatic = specs.parse_one(config.head_init, "--head_init").name, config.augment.strip() == "auto"
    if wanted == "prior":
        heads.set_prior(network.model.get_layer("logits"), splits.train.labels)
    solution, recipe = None, config.augment
    if wanted == "probe" or automatic:
        kernel, bias, strength = heads.probe(inputs, splits.train.labels, len(splits.classes), config.seed)
        if wanted == "probe":
            solution = (kernel, bias)
            screen.say(f"probe: logistic regression on {inputs.shape[1]} features, C = {strength:.3g}")
        if automatic:
            labels = splits.val.labels
            plain, mirrored = (evaluate.log_loss(embed(splits.val, step) @ kernel + bias, labels) for step in (1, -1))
            cost = mirrored / max(plain, 1e-3)
            recipe = "crop(area=(0.35, 1))" + (" | flip" if cost <= MIRROR_COST else "")
            screen.say(f"augmentation: {recipe} (on mirrored pictures the probe's loss is {cost:.2f} times as high)")
    return Start(solution, recipe, time.monotonic() - started)


def _embedder(network: Network):
    """A function (split, step) to what reaches the last layer, float32 [N, D]; step -1 mirrors the pictures.

    Its first call sets the statistics of the `standardise` layer.
    """
    features = evaluate.predictor(network.part("standardise"))
    head = network.head_layers()
    standardise = head[0]
    fitted = False

    def embed(split: Split, step: int) -> np.ndarray:
        nonlocal fitted
        batches = pipeline.evaluation_stream(split, size=network.size, batch_size=BATCH)
        values = features(batches.map(lambda images: images[:, :, ::step]))
        if not fitted:
            heads.set_statistics(standardise, values)
            fitted = True
        for layer in head[:-1]:
            values = layer(values, training=False)
        return keras.ops.convert_to_numpy(values)

    return embed
