"""Augmentation, fused, side by side with Keras's layers for the same, inside tf.data on a CPU: ratios first.

Batches of 32 images of 224 px. Ours draws its numbers as the training pipeline does, by (seed, epoch, example).

    python benchmarks/data/augmentation.py
"""

import argparse

import keras
import numpy as np
import tensorflow as tf
from parts import SIZE, compare, drain

from kerasft import augment
from kerasft.data import pipeline
from kerasft.settings import spec as specs

BATCH = 32
layers = keras.layers


def rivals(title: str, recipe: str, stack: list[keras.Layer], batches: int, keras_batches: int) -> None:
    """Compares a recipe with a stack of Keras layers; the slower of them may go through fewer batches."""
    images = np.random.default_rng(0).integers(0, 255, (BATCH, 7, 7, 3), dtype=np.uint8)
    images = tf.cast(tf.image.resize(images, (SIZE, SIZE)), tf.uint8)
    layer = augment.build(specs.parse(recipe, "--augment"), classes=10)
    labels = tf.range(BATCH) % 10
    rows = tf.range(BATCH, dtype=tf.int64)

    def ours(step: tf.Tensor) -> tuple[tf.Tensor, ...]:
        draws = pipeline.uniform_draws(layer.draws, 0, tf.fill([BATCH], step), rows)
        return layer.mix(draws, layer(images, draws), labels)

    def theirs(step: tf.Tensor) -> tf.Tensor:
        batch = tf.cast(images, tf.float32)
        for one in stack:
            batch = one(batch, training=True)
        return batch

    runs = []
    for function, count in ((ours, batches), (theirs, keras_batches)):
        steps = tf.data.Dataset.range(count)
        runs.append(drain(steps.map(function, num_parallel_calls=2)))
    compare(title, BATCH * batches, *runs, rival_work=BATCH * keras_batches)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print("| part | times as fast | range | images/s | rival images/s |\n| --- | --- | --- | --- | --- |")
    rivals(
        "randaugment(2, 9) / RandAugment(num_ops=2, factor=0.9)",
        "randaugment(2, 9)",
        [layers.RandAugment(num_ops=2, factor=0.9)],
        batches=32,
        keras_batches=1,
    )
    rivals(
        "flip, rotate(15), zoom, contrast / RandomFlip, RandomRotation, RandomZoom, RandomContrast",
        "flip | rotate(15) | zoom | contrast",
        [
            layers.RandomFlip("horizontal"),
            layers.RandomRotation(15 / 360),
            layers.RandomZoom(0.2),
            layers.RandomContrast(0.2),
        ],
        batches=32,
        keras_batches=8,
    )
    rivals("augmix / AugMix", "augmix", [layers.AugMix()], batches=8, keras_batches=1)
