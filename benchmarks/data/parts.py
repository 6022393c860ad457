"""The parts, each side by side with its rival in one run: ratios first, images a second behind them.

1. The decoder with and without looking for EXIF, on JPEGs of 500x375 without any.
2. `crop | flip | rotate(15) | zoom | color(0.2)` fused, against Keras's layers for the same, inside tf.data.
3. A training step of all layers with BatchNormalization fused, against Keras's own.
4. Keras's steps of 64 images against those of 32, and compiled by XLA against plain ones.

    python benchmarks/data/parts.py
"""

import argparse
import io
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from kerasft import augment
from kerasft.data.decode import decode
from kerasft.data.framing import crop
from kerasft.networks import fused_batch_norm
from kerasft.settings import spec as specs

SIZE = 224
ROUNDS = 9


def compare(
    title: str, work: int, ours: Callable[[], None], rival: Callable[[], None], rival_work: int | None = None
) -> None:
    """Runs both in turn, `ROUNDS` times after a warm-up, and prints the median ratio of their speeds.

    Args:
        work: images that one call of either goes through.
        rival_work: of the rival's, where it goes through fewer.
    """
    rival_work = rival_work or work
    times = []
    for _ in range(ROUNDS + 1):
        row = []
        for run in (ours, rival):
            started = time.perf_counter()
            run()
            row.append(time.perf_counter() - started)
        times.append(row)
    ratios = sorted(b / rival_work / (a / work) for a, b in times[1:])
    a, b = np.median(np.array(times[1:]), axis=0)
    middle = ratios[len(ratios) // 2]
    print(
        f"| {title} | {middle:.2f} | {ratios[0]:.2f} - {ratios[-1]:.2f} | {work / a:,.0f} | {rival_work / b:,.0f} |",
        flush=True,
    )


def drain(dataset: tf.data.Dataset) -> Callable[[], None]:
    """A function that runs once through a dataset."""

    def run() -> None:
        for _ in dataset:
            pass

    return run


def decoder() -> None:
    rng = np.random.default_rng(0)
    contents = []
    for _ in range(100):
        small = Image.fromarray(rng.integers(0, 255, (47, 63, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        small.resize((500, 375), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
        contents.append(buffer.getvalue())

    def bare(one: tf.Tensor) -> tf.Tensor:
        image = tf.ensure_shape(tf.io.decode_image(one, channels=3, expand_animations=False), [None, None, 3])
        return tf.saturate_cast(tf.round(crop(image, SIZE)), tf.uint8)

    source = tf.data.Dataset.from_tensor_slices(contents).repeat(4)
    ours, rival = (source.map(work, num_parallel_calls=2) for work in (lambda one: decode(one, SIZE, "crop"), bare))
    compare("decoder, EXIF looked for / not", 400, drain(ours), drain(rival))


def augmentation() -> None:
    images = np.random.default_rng(0).integers(0, 255, (32, SIZE, SIZE, 3), dtype=np.uint8)
    fused = augment.build(specs.parse("crop(area=(0.35, 1)) | flip | rotate(15) | zoom | color(0.2)", "--augment"))
    layers = keras.layers
    stack = [
        layers.RandomFlip("horizontal"),
        layers.RandomRotation(15 / 360),
        layers.RandomZoom(0.2),
        layers.RandomBrightness(0.2),
        layers.RandomContrast(0.2),
    ]

    def rival(batch: tf.Tensor) -> tf.Tensor:
        batch = tf.cast(batch, tf.float32)
        for layer in stack:
            batch = layer(batch, training=True)
        return batch

    source = tf.data.Dataset.from_tensors(images).repeat(8)
    draws = tf.random.uniform([32, fused.draws])
    ours = source.map(lambda batch: fused(batch, draws), num_parallel_calls=2)
    compare("augmentation, fused / Keras layers", 256, drain(ours), drain(source.map(rival, num_parallel_calls=2)))


def batch_norm(constructor: Callable, **arguments: float) -> None:
    images = np.random.default_rng(0).uniform(0, 1, (32, SIZE, SIZE, 3)).astype(np.float32)
    labels = np.arange(32) % 5

    def model(fused: bool) -> keras.Model:
        base = constructor(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3), pooling="avg", **arguments)
        for layer in base.layers:
            if fused and isinstance(layer, keras.layers.BatchNormalization):
                vars(layer)["call"] = fused_batch_norm.make_fused_call(layer)
        whole = keras.Model(base.input, keras.layers.Dense(5)(base.output))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        whole.compile(keras.optimizers.AdamW(1e-4), loss, jit_compile=False)
        return whole

    ours, rival = model(True), model(False)
    steps = [lambda m=m: [m.train_on_batch(images, labels) for _ in range(3)] for m in (ours, rival)]
    compare(f"training step, {constructor.__name__}, BatchNorm fused / Keras's", 96, *steps)


def batches(constructor: Callable, **arguments: float) -> None:
    images = np.random.default_rng(0).uniform(0, 1, (64, SIZE, SIZE, 3)).astype(np.float32)
    labels = np.arange(64) % 5
    base = constructor(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3), pooling="avg", **arguments)
    whole = keras.Model(base.input, keras.layers.Dense(5)(base.output))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    whole.compile(keras.optimizers.AdamW(1e-4), loss, jit_compile=False)

    def steps(size: int) -> Callable[[], None]:
        return lambda: [whole.train_on_batch(images[i : i + size], labels[i : i + size]) for i in range(0, 64, size)]

    compare(f"training step, {constructor.__name__}, of 64 images / of 32", 64, steps(64), steps(32))


def compiled(constructor: Callable, **arguments: float) -> None:
    images = np.random.default_rng(0).uniform(0, 1, (8, SIZE, SIZE, 3)).astype(np.float32)
    labels = np.arange(8) % 5

    def step(jit: bool) -> Callable[[], None]:
        base = constructor(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3), pooling="avg", **arguments)
        whole = keras.Model(base.input, keras.layers.Dense(5)(base.output))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        whole.compile(keras.optimizers.AdamW(1e-4), loss, jit_compile=jit)
        return lambda: whole.train_on_batch(images, labels)

    compare(f"training step, {constructor.__name__}, compiled by XLA / plain", 8, step(True), step(False))


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print("| part | times as fast | range | images/s | rival images/s |\n| --- | --- | --- | --- | --- |")
    decoder()
    augmentation()
    batch_norm(keras.applications.MobileNet, alpha=0.25)
    batch_norm(keras.applications.MobileNetV2, alpha=0.35)
    batches(keras.applications.MobileNet, alpha=0.25)
    batches(keras.applications.MobileNetV2, alpha=0.35)
    compiled(keras.applications.MobileNet, alpha=0.25)
    compiled(keras.applications.ResNet50)
