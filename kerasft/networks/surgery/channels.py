"""Which channels of a network belong together, so that a surgery can remove them with all that depends on them."""

import math
from collections import defaultdict
from dataclasses import dataclass, field

import keras

_layers = keras.layers

# Layers whose output channels are their input channels, one by one.
_CHANNELWISE = (
    _layers.BatchNormalization,
    _layers.Activation,
    _layers.ReLU,
    _layers.LeakyReLU,
    _layers.ELU,
    _layers.Dropout,
    _layers.SpatialDropout2D,
    _layers.ZeroPadding2D,
    _layers.Cropping2D,
    _layers.UpSampling2D,
    _layers.MaxPooling2D,
    _layers.AveragePooling2D,
    _layers.GlobalMaxPooling2D,
    _layers.GlobalAveragePooling2D,
    _layers.Identity,
)

# Layers and operations that join tensors value by value.
_JOINING = ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "TrueDivide")

# Operations of one tensor that act value by value.
_UNARY = ("Relu", "Relu6", "Silu", "Gelu", "Sigmoid", "HardSigmoid", "HardSilu", "Tanh", "Elu", "LeakyRelu", "Cast")


@dataclass
class Channels:
    """Groups of channels: those of one group go together, the first with the first.

    Attributes:
        sizes: channels of each group.
        parents: of each group the one that it was tied to; itself where it was not.
        fixed: groups whose channels must all stay.
        of: the groups of a tensor's channels in their order, by the tensor's `id`.
    """

    sizes: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    fixed: set[int] = field(default_factory=set)
    of: dict[int, tuple[int, ...]] = field(default_factory=dict)

    def add(self, size: int) -> tuple[int, ...]:
        """Makes a new group."""
        self.sizes.append(size)
        self.parents.append(len(self.parents))
        return (len(self.parents) - 1,)

    def root(self, group: int) -> int:
        """The group that stands for all groups that are tied to this one."""
        while self.parents[group] != group:
            group = self.parents[group]
        return group

    def roots(self, tensor: keras.KerasTensor) -> list[int]:
        """The groups of a tensor's channels, each by the one that stands for it."""
        return [self.root(group) for group in self.of[id(tensor)]]

    def fix(self, groups: tuple[int, ...]) -> None:
        """Says that the channels of these groups must all stay."""
        self.fixed |= set(groups)

    def tie(self, ours: tuple[int, ...], theirs: tuple[int, ...]) -> bool:
        """Says that channels go together; False where the groups are of different sizes."""
        if [self.sizes[group] for group in ours] != [self.sizes[group] for group in theirs]:
            return False
        for one, other in zip(ours, theirs, strict=True):
            self.parents[self.root(one)] = self.root(other)
        return True

    def removable(self) -> dict[int, int]:
        """The groups whose channels may be removed, and how many they have."""
        fixed = {self.root(group) for group in self.fixed}
        return {group: self.sizes[group] for group in map(self.root, range(len(self.sizes))) if group not in fixed}


def trace(model: keras.Model) -> Channels:
    """Follows the channels of a model from its input to its output.

    What is not known to treat each channel for itself keeps all the channels that it sees and gives.
    """
    found = Channels()
    for operation in model.operations:
        tensors = [] if isinstance(operation, _layers.InputLayer) else keras.tree.flatten(operation.input)
        inputs = [found.of[id(tensor)] for tensor in tensors]
        outputs = keras.tree.flatten(operation.output)
        groups = _output_groups(found, operation, tensors, inputs) if tensors and len(outputs) == 1 else None
        if groups is None:
            found.fix(sum(inputs, ()))
        for one in outputs:
            found.of[id(one)] = groups or found.add(one.shape[-1])
            if groups is None:
                found.fix(found.of[id(one)])
    return found


def multiplications(model: keras.Model, traced: Channels) -> dict[int, float]:
    """What a channel of each group costs: the multiplications of an image that go with it, where it is made and read.

    Args:
        traced: of the model.
    """
    found: dict[int, float] = defaultdict(float)
    for layer in model.layers:
        kernels = [math.prod(weight.shape) for weight in layer.weights if len(weight.shape) > 1]
        if not kernels or not isinstance(layer.output, keras.KerasTensor):
            continue
        whole = math.prod(layer.output.shape[1:-1]) * sum(kernels)
        # The channels of a depthwise convolution are those before it.
        tensors = (layer.output,) if is_depthwise(layer) else (layer.output, layer.input)
        for tensor in filter(lambda one: isinstance(one, keras.KerasTensor), tensors):
            for group in traced.of[id(tensor)]:
                found[traced.root(group)] += whole / tensor.shape[-1]
    return found


def takes_kernel(operation: keras.Operation) -> bool:
    """Whether an operation is a layer that makes new channels of all its input channels."""
    if isinstance(operation, _layers.DepthwiseConv2D):
        return False
    if isinstance(operation, _layers.SeparableConv2D):
        return operation.depth_multiplier == 1
    plain = type(operation) in (_layers.Dense, _layers.Conv2D)
    return (
        plain
        and getattr(operation, "groups", 1) == 1
        and keras.activations.serialize(operation.activation) != "softmax"
    )


def is_depthwise(operation: keras.Operation) -> bool:
    """Whether an operation is a layer with a kernel for each channel."""
    return isinstance(operation, _layers.DepthwiseConv2D) and operation.depth_multiplier == 1


def is_reshape(operation: keras.Operation) -> bool:
    """Whether an operation gives vectors [N, C] one pixel: [N, 1, 1, C]."""
    if not isinstance(operation, _layers.Reshape) or len(operation.input.shape) != 2:
        return False
    return operation.target_shape[-1] in (-1, math.prod(operation.target_shape))


def _output_groups(
    found: Channels, operation: keras.Operation, tensors: list[keras.KerasTensor], inputs: list[tuple[int, ...]]
) -> tuple[int, ...] | None:
    """The groups of what an operation gives; None where it is not known. Those of what it takes may become tied."""
    name, size = type(operation).__name__, operation.output.shape[-1]
    if takes_kernel(operation):
        return found.add(size)
    channelwise = isinstance(operation, _CHANNELWISE) and getattr(operation, "axis", -1) in (-1, 3)
    if channelwise or is_depthwise(operation) or is_reshape(operation) or (name in _UNARY and len(inputs) == 1):
        return inputs[0]
    joins = name in _JOINING and all(tensor.shape[-1] == size for tensor in tensors) and _has_no_arrays(operation)
    # A plain `x + 3` has one tensor.
    if joins and all(found.tie(inputs[0], other) for other in inputs[1:]):
        return inputs[0]
    last = len(operation.output.shape) - 1
    if isinstance(operation, _layers.Concatenate) and operation.axis in (-1, last):
        return sum(inputs, ())
    return None


def _has_no_arrays(operation: keras.Operation) -> bool:
    """Whether an operation takes tensors and numbers only: an array may have channels of its own."""
    if isinstance(operation, keras.Layer):
        return True
    arguments = keras.tree.flatten(
        [operation._inbound_nodes[0].arguments.args, operation._inbound_nodes[0].arguments.kwargs]
    )
    others = [value for value in arguments if not isinstance(value, keras.KerasTensor)]
    return all(isinstance(value, (int, float)) or value is None for value in others)
