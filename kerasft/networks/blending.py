"""The gradual replacement of an activation by another one during training, and its removal afterwards."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import keras
import numpy as np

from kerasft.networks import copies
from kerasft.networks.network import Network


@keras.saving.register_keras_serializable("kerasft")
class Blend(keras.layers.Layer):
    """Two activations as one layer: (1 - share) * old(x) + share * new(x).

    The share is a weight that no gradient reaches, at first 0. Training raises it (`optimization/blending_optimizer.py`).

    Args:
        old: an activation layer, or an operation of keras.ops.
        new: an activation layer.
        steps: training steps in which the share goes from 0 to 1 (read by `optimization/blending_optimizer.py`).
    """

    def __init__(self, old: keras.Operation | dict, new: keras.Layer | dict, steps: int, **kwargs):
        super().__init__(**kwargs)
        self.old, self.new = (
            keras.saving.deserialize_keras_object(one) if isinstance(one, dict) else one for one in (old, new)
        )
        self.steps = steps
        for inner in (self.old, self.new):
            if isinstance(inner, keras.Layer):
                inner.dtype_policy = self.dtype_policy

    def build(self, shape: tuple) -> None:
        """Creates the share, a scalar, and the weights of the activations."""
        for inner in (self.old, self.new):
            if isinstance(inner, keras.Layer):
                inner.build(shape)
        self.share = self.add_weight(
            shape=(), initializer="zeros", trainable=False, dtype="float32", autocast=False, name="share"
        )

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        """Computes the blend of activations [N, ...], in their shape and dtype."""
        share = keras.ops.cast(self.share, inputs.dtype)
        return (1 - share) * self.old(inputs) + share * self.new(inputs)

    def compute_output_shape(self, shape: tuple) -> tuple:
        """That of the inputs."""
        return shape

    def get_config(self) -> dict:
        """Returns what `from_config` needs."""
        both = {name: keras.saving.serialize_keras_object(getattr(self, name)) for name in ("old", "new")}
        for one in both.values():
            # Else Keras would build them a second time, after `build`.
            one.pop("build_config", None)
        return {**super().get_config(), **both, "steps": self.steps}

    def kept(self) -> keras.Operation:
        """The new activation where a phase has trained the layer, else the old one.

        What a phase leaves has a share of 1, and what no phase trained one of 0.
        """
        return self.new if float(self.share) > 0.5 else self.old


def blends_of(model: keras.Model) -> list[Blend]:
    """The layers of a model, not those inside of others, in which an activation is blended in."""
    return [layer for layer in model.layers if isinstance(layer, Blend)]


@contextmanager
def new_alone(blends: Iterable[Blend]) -> Iterator[None]:
    """Lets layers compute the new activation alone in the block."""
    shares = [(blend.share, float(blend.share)) for blend in blends]
    for share, _ in shares:
        share.assign(1.0)
    try:
        yield
    finally:
        for share, value in shares:
            share.assign(value)


def with_shares_of_one(model: keras.Model, weights: list[np.ndarray], blends: Iterable[Blend]) -> list[np.ndarray]:
    """Weights of a model, in the order of `get_weights`, with which these layers compute the new activation alone."""
    shares = {id(blend.share) for blend in blends}
    # Most networks have none, and their weights are many.
    if not shares:
        return weights
    pairs = zip(model.weights, weights, strict=True)
    return [np.ones_like(value) if id(variable) in shares else value for variable, value in pairs]


def finish(model: keras.Model, blends: Iterable[Blend]) -> None:
    """Lets the layers of a model that have the names of these blends compute the new activation alone."""
    names = {blend.name for blend in blends}
    for blend in blends_of(model):
        if blend.name in names:
            blend.share.assign(1.0)


def without_blends(network: Network) -> Network:
    """The network with one activation in place of each blend: the new one, or the old one where no phase trained it.

    Layers have the names that they had. A network without blends is returned itself.
    """
    kept = {blend.name: blend.kept() for blend in blends_of(network.model)}
    if not kept:
        return network

    def made(operation: keras.Operation) -> keras.Operation | None:
        if operation.name not in kept:
            return None
        one = kept[operation.name]
        return type(one).from_config(one.get_config() | {"name": operation.name})

    weights = {name: one.get_weights() if isinstance(one, keras.Layer) else [] for name, one in kept.items()}
    return network._replace(model=copies.copied_model(network.model, made=made, weights=weights))
