"""What a forward pass and a training step cost, against the work that `forward_work` counts.

The network is cut in the middle, as `top(unfreeze=0.5)` cuts it. Printed: processor milliseconds an image of a forward pass
through the first half, of a training step of the second half, and of a forward pass through the whole; then the ratios that
are measured, and those that `forward_work` gives where a written value counts as 1, 10, 20 or 40 multiplications.

    python benchmarks/training/work.py [--backbones='MobileNet(alpha=0.25);EfficientNetV2B0']
"""

import argparse
import time
from collections.abc import Callable

import keras
import tensorflow as tf

from kerasft.networks import network as networks
from kerasft.networks.multiplications import MULTIPLICATIONS_PER_STEP, multiplications, written_values
from kerasft.settings.config import Config
from kerasft.strategies import caching, freezing
from kerasft.strategies.top import top

BACKBONES = "MobileNet(alpha=0.25);MobileNetV2(alpha=0.35);EfficientNetV2B0;ResNet50"
BATCH_SIZE, SIZE, CALLS = 32, 224, 12


def milliseconds(call: Callable[[tf.Tensor], tf.Tensor], batch: tf.Tensor) -> float:
    """Processor milliseconds an image."""
    for _ in range(2):
        call(batch)
    started = time.process_time()
    for _ in range(CALLS):
        call(batch)
    return (time.process_time() - started) / CALLS / BATCH_SIZE * 1e3


def training_step(model: keras.Model) -> Callable[[tf.Tensor], tf.Tensor]:
    optimizer, labels = keras.optimizers.Adam(1e-4), tf.zeros(BATCH_SIZE, tf.int32)
    optimizer.build(model.trainable_variables)

    @tf.function
    def step(batch: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            outputs = model(batch, training=True)
            loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(labels, outputs, from_logits=True))
        gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
        optimizer.apply(gradients, model.trainable_variables)
        return loss

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", default=BACKBONES, help="separated by ;")
    backbones = parser.parse_args().backbones.split(";")
    print("| backbone | first half | step of the second | whole | first / step: measured | 1 | 10 | 20 | 40 |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for name in backbones:
        network = networks.build(Config(backbone=name, weights="none", image_size=SIZE), 5, "single_label")
        phase = top(0.5, batch_norm="train")
        freezing.apply(network, phase)
        front, end = caching.split_at_cut(network, phase)
        images = tf.random.uniform((BATCH_SIZE, SIZE, SIZE, 3), 0, 255)
        first = tf.function(lambda batch, model=front: model(batch, training=False))
        whole = tf.function(lambda batch, model=network.model: model(batch, training=False))
        times = (
            milliseconds(first, images),
            milliseconds(training_step(end), first(images)),
            milliseconds(whole, images),
        )
        cells = [*(f"{one:.2f}" for one in times), f"{times[0] / times[1]:.2f}"]
        for per_write in (1, 10, 20, 40):
            ahead, both = (multiplications(m) + per_write * written_values(m) for m in (front, network.model))
            cells.append(f"{ahead / MULTIPLICATIONS_PER_STEP / (both - ahead):.2f}")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
