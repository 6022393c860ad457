"""Class activation maps: which places of an image raise the score of an answer.

Grad-CAM (Selvaraju et al. 2017, equations 1 and 2) weights the channels of the map that the head pools. Of a head that sees
several depths, the map of each depth is weighted by the gradient of the head alone, and the maps are added. So every part of
the score is counted once. Layer-CAM (Jiang et al. 2021, equation 6) weights each place of a finer map by itself.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from kerasft.networks import backbones, flip_averaging, layer_names

# A map of fewer places a side says nothing about where.
MIN_SIDE = 3
# Layer-CAM looks at the last map that is so much finer than that of Grad-CAM, and has so many places a side.
FINER = 2
FINE_SIDE = 7
# Tokens that stand for no place come first: of the class, of distillation, registers.
MAX_EXTRA_TOKENS = 5
# Images of which maps are computed at once.
BATCH_SIZE = 16


class Method(NamedTuple):
    """A way to compute maps.

    Attributes:
        title: as the field calls it.
        layers: names of the operations whose outputs are weighted, from input to output.
        side: places a side, G.
        compute: a function from images float32 [N, S, S, 3] in 0..255, columns int [N] and signs float [N] to maps, float32
            [N, G, G], not negative. A map is of what `logit` gives for its column and sign.
    """

    title: str
    layers: tuple[str, ...]
    side: int
    compute: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


class Methods(NamedTuple):
    """What can be computed of a network.

    Attributes:
        found: by name, `grad_cam` and `layer_cam`, as far as the network has maps for them.
        notes: a sentence for what cannot be computed, or only in part.
    """

    found: dict[str, Method]
    notes: tuple[str, ...]


def logits_model(model: keras.Model) -> keras.Model:
    """The network from images to what maps explain: logits float32 [N, C], under regression standardised values [N, D].

    The mean over an image and its mirror image stays one.
    """
    inner = flip_averaging.without_mirroring(model)
    plain = keras.Model(inner.inputs[0], inner.get_layer(layer_names.LOGITS).output, name=inner.name)
    return plain if inner is model else flip_averaging.average_mirrored(plain)


def find_methods(model: keras.Model, task: str) -> Methods:
    """Finds the maps of a network.

    Args:
        model: from images float32 [N, S, S, 3] to logits or values, with the layer names of `layer_names`; averaged over
            mirror images or not.
        task: `single_label`, `multi_label` or `regression`.
    """
    inner = flip_averaging.without_mirroring(model)
    depths, found, notes = _pooled_tensors(inner), {}, []
    # The pooling of features without places is an Identity.
    usable = [tensor for tensor in depths if _grid(tensor) and _grid(tensor)[0] >= MIN_SIDE]
    last = _grid(depths[-1])
    if usable and usable[-1] is depths[-1]:
        names = tuple(_name(tensor) for tensor in usable)
        found["grad_cam"] = Method("Grad-CAM", names, last[0], _grad_cam(inner, depths, usable, task))
        if len(usable) < len(depths):
            notes.append(f"Grad-CAM: {len(depths) - len(usable)} of the depths that the head sees have no places.")
    else:
        shape = "x".join("?" if side is None else str(side) for side in depths[-1].shape[1:])
        notes.append(f"Grad-CAM has no map: what the head pools ({shape}) has fewer than {MIN_SIDE} places a side.")
    tap = _fine_tensor(inner, depths[-1], last[0] if "grad_cam" in found else 0, task)
    if tap is not None:
        found["layer_cam"] = Method("Layer-CAM", (_name(tap),), _grid(tap)[0], _layer_cam(inner, tap, task))
        if len(depths) > 1:
            notes.append("Layer-CAM explains what reaches the head through its layer. The head sees other depths too.")
    else:
        notes.append("Layer-CAM has no map: no layer that all paths pass has a finer one.")
    if inner is not model:
        found = {name: method._replace(compute=_mirrored(method.compute)) for name, method in found.items()}
    return Methods(found, tuple(notes))


def logit(logits: tf.Tensor, columns: tf.Tensor, signs: tf.Tensor, task: str) -> tf.Tensor:
    """What a map explains: the logit of a column times the sign, float32 [N].

    Of one class among several, the mean over all logits is taken off: softmax does not see it.

    Args:
        logits: float32 [N, C], or standardised values [N, D].
        columns: int32 [N].
        signs: float32 [N], 1, or -1 for what lowers a value.
    """
    if task == "single_label":
        logits -= tf.reduce_mean(logits, -1, keepdims=True)
    return tf.gather(logits, columns, batch_dims=1) * signs


def _pooled_tensors(model: keras.Model) -> list[keras.KerasTensor]:
    """What the head pools, of each depth: [N, H, W, C], [N, T, C], or features without places."""
    layer = model.get_layer(layer_names.FEATURES)
    if not isinstance(layer, keras.layers.Concatenate):
        return [layer.input]
    return [tensor._keras_history.operation.input for tensor in layer.input]


def _name(tensor: keras.KerasTensor) -> str:
    return tensor._keras_history.operation.name


def _grid(tensor: keras.KerasTensor) -> tuple[int, int] | None:
    """The places a side, and the tokens before the first place; None for what has no grid.

    Two squares are more than `MAX_EXTRA_TOKENS` apart from a side of `MIN_SIDE` on. So a number of tokens has one grid.
    """
    shape = tensor.shape
    if len(shape) == 4 and shape[1] and shape[1] == shape[2]:
        return shape[1], 0
    if len(shape) == 3 and shape[1]:
        side = math.isqrt(shape[1])
        extra = shape[1] - side**2
        return (side, extra) if extra <= MAX_EXTRA_TOKENS else None
    return None


def _as_image(values: tf.Tensor, grid: tuple[int, int]) -> tf.Tensor:
    """Maps [N, H, W, C] as they are, tokens [N, T, C] on their grid."""
    if len(values.shape) == 4:
        return values
    side, extra = grid
    return tf.reshape(values[:, extra:], [-1, side, side, values.shape[-1]])


def _fine_tensor(model: keras.Model, last: keras.KerasTensor, coarse: int, task: str) -> keras.KerasTensor | None:
    """The last tensor that every path to the last depth passes, and that is fine enough; None if there is none.

    Args:
        coarse: places a side of the map of Grad-CAM; 0 if it has none.
    """
    body = keras.Model(model.inputs[0], last)
    operations = {operation.name: operation for operation in body.operations}
    tensors = [
        operations[name].output for name in backbones.find_cut_points(body) if _has_activations(operations[name])
    ]
    for least in (max(FINER * coarse, FINE_SIDE), 0 if coarse else MIN_SIDE):
        for tensor in reversed(tensors if least else ()):
            grid = _grid(tensor)
            # The last block of tokens hands on the class token alone where the head sees nothing else.
            if grid and grid[0] >= least and (len(tensor.shape) == 4 or _reaches(model, tensor, task)):
                return tensor
    return None


def _has_activations(operation: keras.Operation) -> bool:
    """Whether the outputs are the network's own: no pixels, and no padding around a map."""
    return not isinstance(operation, (keras.layers.InputLayer, keras.layers.ZeroPadding2D, keras.layers.Rescaling))


def _reaches(model: keras.Model, tensor: keras.KerasTensor, task: str) -> bool:
    """Whether the score depends on most places of a tensor, on an image of noise."""
    size = model.inputs[0].shape[1]
    images = np.random.default_rng(0).uniform(0, 255, (1, size, size, 3)).astype(np.float32)
    _, gradients = _tapped(model, tensor, task)(images, np.zeros(1, np.int32), np.ones(1, np.float32))
    return bool((np.abs(gradients.numpy()).max(-1) > 0).mean() > 0.5)


def _grad_cam(
    model: keras.Model, depths: list[keras.KerasTensor], usable: list[keras.KerasTensor], task: str
) -> Callable[..., np.ndarray]:
    alone = len(depths) == 1
    body = keras.Model(model.inputs[0], depths)
    head = keras.Model(depths[0] if alone else depths, model.get_layer(layer_names.LOGITS).output)
    grids = [_grid(tensor) if any(tensor is one for one in usable) else None for tensor in depths]
    side = grids[-1][0]

    def maps(images: tf.Tensor, columns: tf.Tensor, signs: tf.Tensor) -> tf.Tensor:
        values = keras.tree.flatten(body(images, training=False))
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            score = logit(head(values[0] if alone else values, training=False), columns, signs, task)
        gradients, total = tape.gradient(score, values), 0.0
        for value, gradient, grid in zip(values, gradients, grids):
            if grid is not None:
                value, gradient = _as_image(value, grid), _as_image(gradient, grid)
                # Sums, not means, so that depths of different sizes are weighed alike.
                weights = tf.reduce_sum(gradient, [1, 2], keepdims=True)
                part = tf.reduce_sum(weights * value, -1, keepdims=True)
                total += tf.image.resize(part, [side, side], method="area")
        return tf.nn.relu(total)[..., 0]

    return _batched(model, maps)


def _layer_cam(model: keras.Model, tensor: keras.KerasTensor, task: str) -> Callable[..., np.ndarray]:
    tapped, grid = _tapped(model, tensor, task), _grid(tensor)

    def maps(images: tf.Tensor, columns: tf.Tensor, signs: tf.Tensor) -> tf.Tensor:
        values, gradients = (_as_image(one, grid) for one in tapped(images, columns, signs))
        return tf.nn.relu(tf.reduce_sum(tf.nn.relu(gradients) * values, -1))

    return _batched(model, maps)


def _tapped(model: keras.Model, tensor: keras.KerasTensor, task: str) -> Callable[..., tuple[tf.Tensor, tf.Tensor]]:
    """A function from images, columns and signs to the values of a tensor and the gradients of the score by them."""
    both = keras.Model(model.inputs[0], [tensor, model.get_layer(layer_names.LOGITS).output])

    def run(images: tf.Tensor, columns: tf.Tensor, signs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        images = tf.convert_to_tensor(images)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            # What does not depend on something watched is not recorded.
            tape.watch(images)
            values, logits = both(images, training=False)
            score = logit(logits, columns, signs, task)
        return values, tape.gradient(score, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    return run


def _batched(model: keras.Model, maps: Callable[..., tf.Tensor]) -> Callable[..., np.ndarray]:
    """Traces a function once, and calls it on a few images at a time."""
    shape = [None, *model.inputs[0].shape[1:]]
    graph = tf.function(
        maps, input_signature=[tf.TensorSpec(shape), tf.TensorSpec([None], tf.int32), tf.TensorSpec([None])]
    )

    def compute(images: np.ndarray, columns: np.ndarray, signs: np.ndarray) -> np.ndarray:
        given = images.astype(np.float32), columns.astype(np.int32), signs.astype(np.float32)
        spans = [slice(start, start + BATCH_SIZE) for start in range(0, len(images), BATCH_SIZE)]
        return np.concatenate([graph(*(array[span] for array in given)).numpy() for span in spans])

    return compute


def _mirrored(compute: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """The mean of the maps of an image and of its mirror image, as the network takes the mean of their logits."""

    def both(images: np.ndarray, columns: np.ndarray, signs: np.ndarray) -> np.ndarray:
        turned = compute(images[:, :, ::-1], columns, signs)[:, :, ::-1]
        return (compute(images, columns, signs) + turned) / 2

    return both
