"""Fake quantisation: a network in float32 that computes what its int8 artefact will (Jacob et al. 2018, section 3).

Kernels are rounded to 8 bits an output channel wherever they are read, and activations to 256 values in one range a tensor.
Gradients pass both as if nothing were rounded (the straight-through estimator), but for activations outside of their range,
which get none (Krishnamoorthi 2018, section 3.2).

A kernel whose channel is scaled is rounded to the same whole numbers. So BatchNormalization, which the exporters fold into
the kernel before, may stay where it is.
"""

import functools
from collections.abc import Callable

import keras
import numpy as np

from kerasft.networks import copies, eight_bits, layer_names
from kerasft.networks.layer_names import EIGHT_BITS_SUFFIX
from kerasft.networks.network import Network
from kerasft.networks.surgery.precision import precision

# Layers and operations that give values of their inputs: these are rounded already.
_PASSING = {"InputLayer", "ZeroPadding2D", "Cropping2D", "MaxPooling2D", "GlobalMaxPooling2D", "Flatten", "Permute"}
_PASSING |= {"Transpose", "Reshape", "Squeeze", "ExpandDims", "GetItem", "Identity", "Dropout", "SpatialDropout2D"}

_DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
_SEPARABLE = (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)
_PLAIN = (keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D)


class FakeQuantisation(keras.layers.Layer):
    """Rounds a tensor to 256 values at even distances, 0 among them, from the lowest to the highest that were measured.

    Attributes:
        low, high: the range, two scalars that do not train; 0..1 until it is measured.
        measuring: whether calls widen the range, and give their inputs as they are.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs | {"dtype": "float32"})
        self.measuring = False

    def build(self, shape: tuple) -> None:
        """Creates the range."""
        self.low = self.add_weight(shape=(), initializer="zeros", trainable=False, name="low")
        self.high = self.add_weight(shape=(), initializer="ones", trainable=False, name="high")

    def call(self, activations: keras.KerasTensor) -> keras.KerasTensor:
        """Rounds a tensor of any shape."""
        if self.measuring:
            self.low.assign(keras.ops.minimum(self.low, keras.ops.min(activations)))
            self.high.assign(keras.ops.maximum(self.high, keras.ops.max(activations)))
            return activations
        return keras.quantizers.fake_quant_with_min_max_vars(activations, self.low, self.high)

    def compute_output_shape(self, shape: tuple) -> tuple:
        """The shape stays."""
        return shape


def with_fake_quantisation(network: Network) -> Network:
    """A copy of the network, in float32, that rounds kernels and activations to 8 bits. `measure` gives it its ranges.

    Kernels of dense layers, convolutions and their depthwise and separable kinds are rounded, wherever they are. Every tensor
    of the graph is rounded that an int8 runtime stores: not one that goes into nothing but a BatchNormalization that is
    folded or a ReLU, and not the logits. What layers compute inside of them (attention) stays as it is.
    """
    network = precision(network, "float32")
    places = _stored(network.model)

    def called(operation: keras.Operation, *args, **kwargs):
        outputs = operation(*args, **kwargs)
        return (
            FakeQuantisation(name=operation.name + EIGHT_BITS_SUFFIX)(outputs) if operation.name in places else outputs
        )

    model = copies.copied(network, called)
    for layer in model._flatten_layers():
        if kernels := _kernels(layer):
            # A call that stands in the layer itself goes before that of its class.
            vars(layer)["call"] = _rounding_call(layer.call, kernels)
    names = [operation.name for operation in model.operations]
    backbone = tuple(name for name in names if name.removesuffix(EIGHT_BITS_SUFFIX) in network.backbone)
    # A block begins behind the rounding of the one before, as it does in the network that is rounded.
    cut_points = tuple(name for name in backbone if name.removesuffix(EIGHT_BITS_SUFFIX) in network.cuts)
    return network._replace(model=model, backbone=backbone, cuts=cut_points)


def measure(quantised: Network, network: Network, images: np.ndarray) -> None:
    """Measures the ranges of activations on images, and lets biases make up for the rounding of kernels.

    The exporters do both in the same way (`export/portable/bias_correction.py`). So training begins at what they would
    write.

    Args:
        quantised: that `with_fake_quantisation` made of the network; it changes.
        network: as it was then.
        images: training images, float32 [N, S, S, 3], RGB in 0..255.
    """
    _correct_offsets(quantised.model, copies.copied(precision(network, "float32")), images)
    ranges = [layer for layer in quantised.model.layers if isinstance(layer, FakeQuantisation)]
    for layer in ranges:
        layer.high.assign(0.0)
        layer.measuring = True
    for start in range(0, len(images), eight_bits.BATCH_SIZE):
        quantised.model(images[start : start + eight_bits.BATCH_SIZE], training=False)
    for layer in ranges:
        layer.measuring = False


def round_kernels(network: Network) -> None:
    """Gives a network the kernels in 8 bits that fake quantisation reads: an int8 artefact then rounds them no further."""
    for layer in network.model._flatten_layers():
        for variable, depthwise in _kernels(layer):
            variable.assign(eight_bits.round_kernel(np.asarray(variable), depthwise))


def _kernels(layer: keras.Layer) -> list[tuple[keras.Variable, bool]]:
    """The kernels of a layer, and of each whether it is depthwise."""
    if isinstance(layer, _DEPTHWISE):
        return [(layer.kernel, True)]
    if isinstance(layer, _SEPARABLE):
        return [(layer.depthwise_kernel, True), (layer.pointwise_kernel, False)]
    return [(layer._kernel, False)] if isinstance(layer, _PLAIN) else []


def _rounding_call(call: Callable, kernels: list[tuple[keras.Variable, bool]]) -> Callable:
    """The call of a layer that reads its kernels in 8 bits."""

    @functools.wraps(call)
    def rounded(*args, **kwargs):
        read = [(variable, _rounded(variable, depthwise)) for variable, depthwise in kernels]
        with keras.StatelessScope(read, initialize_variables=False):
            return call(*args, **kwargs)

    return rounded


def _rounded(variable: keras.Variable, depthwise: bool) -> keras.KerasTensor:
    """What `eight_bits.round_kernel` gives, with the gradient of the kernel as it is."""
    ops, kernel = keras.ops, keras.ops.convert_to_tensor(variable)
    axes = eight_bits.channel_axes(len(kernel.shape), depthwise)
    step = ops.max(ops.abs(kernel), axes, keepdims=True) / eight_bits.MAX_WEIGHT
    step = ops.stop_gradient(ops.where(step == 0, 1.0, step))
    return kernel + ops.stop_gradient(ops.round(kernel / step) * step - kernel)


def _correct_offsets(quantised: keras.Model, plain: keras.Model, images: np.ndarray) -> None:
    """Takes the mean error that rounded kernels make off the bias, or off the offset of the BatchNormalization behind."""
    readers = _readers(plain)
    layers = [layer for layer in plain.layers if isinstance(layer, eight_bits.LINEAR)]
    for layer, mean in zip(layers, eight_bits.input_means(plain, layers, images)):
        kernel, depthwise = layer.get_weights()[0], isinstance(layer, keras.layers.DepthwiseConv2D)
        shift = eight_bits.output_shift(kernel - eight_bits.round_kernel(kernel, depthwise), mean, depthwise)
        norm = _norm_behind(layer, readers)
        if layer.use_bias:
            offset = quantised.get_layer(layer.name).bias
        elif norm and norm.center:
            scale = np.asarray(norm.gamma) if norm.scale else 1.0
            shift = shift * scale / np.sqrt(np.asarray(norm.moving_variance) + norm.epsilon)
            offset = quantised.get_layer(norm.name).beta
        else:
            continue
        offset.assign(offset + shift)


def _stored(model: keras.Model) -> frozenset[str]:
    """The names of the operations whose outputs an int8 runtime stores in 8 bits."""
    readers, found = _readers(model), []
    for operation in model.operations:
        # The exporters leave the logits and what follows in float32.
        if operation.name == layer_names.LOGITS:
            break
        output = operation.output
        floating = isinstance(output, keras.KerasTensor) and output.dtype == "float32"
        if floating and type(operation).__name__ not in _PASSING and not _fused(operation, readers):
            found.append(operation.name)
    return frozenset(found)


def _fused(operation: keras.Operation, readers: dict[int, list[keras.Operation]]) -> bool:
    """Whether what an operation gives is read by one other alone, which a runtime computes together with it."""
    following = readers.get(id(operation.output), [])
    if len(following) != 1:
        return False
    return _is_relu(following[0]) or _norm_behind(operation, readers) is not None


def _norm_behind(
    operation: keras.Operation, readers: dict[int, list[keras.Operation]]
) -> keras.layers.BatchNormalization | None:
    """The BatchNormalization behind a convolution or dense layer that is folded into it."""
    following = readers.get(id(operation.output), [])
    linear = isinstance(operation, keras.Layer) and bool(_kernels(operation))
    if not linear or keras.activations.serialize(operation.activation) != "linear" or len(following) != 1:
        return None
    return following[0] if isinstance(following[0], keras.layers.BatchNormalization) else None


def _is_relu(operation: keras.Operation) -> bool:
    """Whether an operation only cuts its input off, as ReLU and ReLU6 do."""
    if isinstance(operation, keras.layers.ReLU):
        return not operation.negative_slope and not operation.threshold
    if isinstance(operation, keras.layers.Activation):
        return operation.activation in (keras.activations.relu, keras.activations.relu6)
    return type(operation).__name__ in ("Relu", "Relu6")


def _readers(model: keras.Model) -> dict[int, list[keras.Operation]]:
    """The operations that read each tensor, by its `id`."""
    found: dict[int, list[keras.Operation]] = {}
    for operation in model.operations:
        if not isinstance(operation, keras.layers.InputLayer):
            for tensor in keras.tree.flatten(operation.input):
                found.setdefault(id(tensor), []).append(operation)
    return found
