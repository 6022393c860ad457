"""Feeding and fitting, each side by side with its rival in one run: ratios first, images a second behind them.

1. Reading, decoding and augmenting JPEGs of 500x375 by kerasft's stream, against bare decoding and resizing, and against the
   layers of the keras.io guide (flip, rotation) behind that. The files are made from real images, enlarged or cut to size.
2. A step of all layers through kerasft's watched fit, against a bare `model.fit`, both fed the same tensors from memory.

    python benchmarks/data/feeding.py --images=FOLDER
"""

import argparse
import io
import tempfile
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import tensorflow as tf
from parts import compare, drain
from PIL import Image, ImageOps

from kerasft import augment, strategies
from kerasft.data import pipeline, splits
from kerasft.networks import network as networks
from kerasft.settings import spec as specs
from kerasft.settings.config import Config
from kerasft.storage.resolved_settings import ResolvedSettings
from kerasft.strategies import freezing
from kerasft.training import callbacks
from kerasft.training.train_state import TrainState

SIZE, BATCH, COUNT = 224, 32, 256
TRAINED = 192  # pixels of what `--phases=auto` trains on, at 224


def photographs(folder: Path) -> list[bytes]:
    """JPEGs of 500x375 from the images of a folder."""
    found, contents = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png")), []
    for path in found[:: max(1, len(found) // COUNT)][:COUNT]:
        buffer = io.BytesIO()
        ImageOps.fit(Image.open(path).convert("RGB"), (500, 375)).save(buffer, "JPEG", quality=90)
        contents.append(buffer.getvalue())
    return contents


def feeding(contents: list[bytes], folder: Path, rounds: int) -> None:
    names = [folder / f"{index:04d}.jpg" for index in range(len(contents))]
    for name, content in zip(names, contents):
        name.write_bytes(content)
    labels = np.zeros(len(names), np.int32)
    split = splits.Split(np.array([str(n) for n in names]), labels, lambda row: names[row].read_bytes(), None)
    recipe = augment.build(specs.parse("crop(area=(0.35, 1)) | flip", "--augment"))
    given = {"batch_size": BATCH, "seed": 0, "first_step": 0, "last_step": rounds * (len(names) // BATCH)}

    def ours(target: int):
        return drain(
            pipeline.training_stream(labels, pipeline.augmented_images(split, SIZE, recipe, 0, target), **given)
        )

    def bare(path: tf.Tensor) -> tf.Tensor:
        image = tf.io.decode_image(tf.io.read_file(path), channels=3, expand_animations=False)
        image.set_shape([None, None, 3])
        return tf.image.resize(image, [SIZE, SIZE])

    tune = tf.data.AUTOTUNE
    files = tf.data.Dataset.from_tensor_slices([str(n) for n in names] * rounds)
    plain = files.map(bare, num_parallel_calls=tune).batch(BATCH)
    layers = [keras.layers.RandomFlip("horizontal"), keras.layers.RandomRotation(0.1)]

    def guide(images: tf.Tensor) -> tf.Tensor:
        for layer in layers:
            images = layer(images, training=True)
        return images

    guided = drain(plain.map(guide, num_parallel_calls=tune).prefetch(tune))
    for target in (SIZE, TRAINED):
        name, count = f"kerasft's stream at {target} pixels", rounds * len(names)
        compare(f"{name} / bare decode and resize", count, ours(target), drain(plain.prefetch(tune)))
        compare(f"{name} / decode, resize, Keras flip and rotation", count, ours(target), guided)


def _stand_in(steps: int) -> SimpleNamespace:
    """Stands in for a PhaseRun, so that the callback does all of its work at each step, and none at the end."""
    state = TrainState("", "", ResolvedSettings("none", SIZE, "float32", ""))
    quiet = SimpleNamespace(restart_clock=lambda: None, due_within_epoch=lambda: False)
    return SimpleNamespace(state=state, setup=SimpleNamespace(steps_per_epoch=steps), checkpointer=quiet)


def fitting() -> None:
    rng = np.random.default_rng(0)
    steps = 8
    images = tf.constant(rng.uniform(0, 255, (BATCH, SIZE, SIZE, 3)).astype(np.float32))
    labels = tf.constant(rng.integers(0, 5, BATCH).astype(np.int32))
    data = tf.data.Dataset.from_tensors((images, labels)).repeat()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    fits = []
    for watched in (True, False):
        network = networks.build(Config(weights="none", image_size=SIZE), 5, "single_label")
        freezing.apply(network, strategies.full())  # BatchNormalization held in both: the same work
        network.model.compile(keras.optimizers.AdamW(1e-4), loss)
        fits.append((network.model, watched))

    class PhaseCallback(callbacks.PhaseCallback):
        def on_epoch_end(self, epoch: int, logs: dict) -> None:
            pass  # validation is not part of a step

    def fit(trained: keras.Model, watched: bool):
        callbacks = [PhaseCallback(_stand_in(steps + 1), lambda: False)] if watched else []
        return lambda: trained.fit(data, steps_per_epoch=steps, callbacks=callbacks, verbose=0)

    compare("step of all layers, kerasft's fit / bare fit", steps * BATCH, *(fit(*pair) for pair in fits))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="a folder of real photographs")
    parser.add_argument("--rounds", type=int, default=4, help=f"of a stream, over {COUNT} images")
    options = parser.parse_args()
    print("| work | times as fast | range | images/s | rival images/s |")
    print("| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        feeding(photographs(options.images), Path(folder), options.rounds)
    fitting()


if __name__ == "__main__":
    main()
