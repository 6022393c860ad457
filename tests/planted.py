"""A network whose reason is known: a red patch makes class 1, a blue patch class 0, and nothing else counts."""

import keras
import numpy as np

from kerasft.networks import heads

SIDE, PATCH = 32, 8


def images(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Grey noise with one patch: float32 [N, 32, 32, 3]; whether it is red, int [N]; where it is, bool [N, 32, 32]."""
    rng = np.random.default_rng(seed)
    pixels = np.repeat(rng.uniform(60, 190, (count, SIDE, SIDE, 1)), 3, -1).astype(np.float32)
    red, places = rng.integers(0, 2, count), np.zeros((count, SIDE, SIDE), bool)
    for index, (row, column) in enumerate(rng.integers(0, SIDE - PATCH + 1, (count, 2))):
        places[index, row : row + PATCH, column : column + PATCH] = True
        pixels[index, places[index]] = (220, 40, 40) if red[index] else (40, 40, 220)
    return pixels, red, places


def network(depths: bool = False, head: str = "linear", outputs: int = 2) -> keras.Model:
    """From images to logits. The maps have 32, 16 and 8 places a side.

    Args:
        depths: whether the head sees 16 and 8 places, and not only 8.
        head: as `--head`.
        outputs: of the network: two logits, or one value that red raises and blue lowers.
    """
    inputs = keras.Input((SIDE, SIDE, 3))
    layers = keras.layers
    colours = layers.ReLU(name="colours")(layers.Conv2D(2, 1, name="conv")(inputs))
    fine = layers.AveragePooling2D(2, name="fine")(colours)
    coarse = layers.AveragePooling2D(2, name="coarse")(fine)
    task = "regression" if outputs == 1 else "single_label"
    logits = heads.build_outputs(head, "zeros", [fine, coarse] if depths else coarse, outputs, task)
    model = keras.Model(inputs, logits)
    colour = np.array([(1, -1), (-0.5, -0.5), (-1, 1)], np.float32) / 255
    model.get_layer("conv").set_weights([colour.reshape(1, 1, 3, 2), np.zeros(2, np.float32)])
    red = np.array([(-1, 1), (1, -1)], np.float32) if outputs == 2 else np.array([(1,), (-1,)], np.float32)
    kernel = 30 * np.concatenate([red, red] if depths else [red])
    model.get_layer("logits").set_weights([kernel, np.zeros(outputs, np.float32)])
    return model
