"""Where training starts: the features' statistics, the head's first weights, and `--augment=auto` settled."""

import time
from typing import NamedTuple

import keras
import numpy as np

from kerasft import evaluate, heads, screen
from kerasft.config import Config
from kerasft.data import pipeline
from kerasft.data.splits import Split, Splits
from kerasft.model import Network

BATCH = 64
AUGMENT = "crop(area=(0.35, 1))"  # of --augment=auto; with flip where mirroring is harmless
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


def prepare(config: Config, network: Network, splits: Splits, *, augmented: bool = True) -> Start:
    """Sets a `prior` and, for pretrained features, their statistics; solves the probe.

    The probe also tells whether mirroring is harmless: by its loss on the mirrored validation pictures.

    Args:
        augmented: whether any phase trains on augmented pictures.
    """
    started = time.monotonic()
    automatic = config.augment.strip() == "auto" and augmented
    solution, recipe = None, AUGMENT if automatic else config.augment if augmented else "none"
    if network.head_init == "prior":
        heads.set_prior(network.model.get_layer("logits"), splits.train.labels)
    if network.pretrained or network.head_init == "probe":
        embed = _embedder(network)
        inputs = embed(splits.train, 1)
        if network.head_init == "probe" or automatic:
            kernel, bias, strength = heads.probe(inputs, splits.train.labels, len(splits.classes), config.seed)
            screen.say(f"probe: logistic regression on {inputs.shape[1]} features, C = {strength:.3g}")
            solution = (kernel, bias) if network.head_init == "probe" else None
        if automatic:
            labels = splits.val.labels
            plain, mirrored = (evaluate.log_loss(embed(splits.val, step) @ kernel + bias, labels) for step in (1, -1))
            cost = mirrored / max(plain, 1e-3)
            recipe += " | flip" if cost <= MIRROR_COST else ""
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
