"""What surgeries share: a network of a changed model, or of other features, and fractions of its blocks."""

from collections.abc import Callable

import keras

from kerasft.networks import backbones, blocks, heads, layer_names
from kerasft.networks.network import Network


def features_of(model: keras.Model) -> keras.KerasTensor:
    """The output of the backbone in the model of a new network, whose head sees one depth."""
    return model.get_layer(layer_names.FEATURES).input


def backbone_model(network: Network) -> keras.Model:
    """The model from images to the backbone's output. It shares the network's layers."""
    return keras.Model(network.model.inputs[0], features_of(network.model))


def with_model(network: Network, model: keras.Model) -> Network:
    """The network of a changed model, head included. Names, cut points and depths are found again."""
    backbone = keras.Model(model.inputs[0], features_of(model))
    names = tuple(operation.name for operation in backbone.operations)
    return network._replace(model=model, backbone=names, cuts=backbones.find_cut_points(backbone), depths=names[-1:])


def with_new_head(network: Network, images: keras.KerasTensor, features: keras.KerasTensor) -> Network:
    """The network of other features, with a new head of the same kind.

    Args:
        images: the input that the features are computed from.
        features: [N, H, W, C] or [N, C].
    """
    outputs = network.model.output_shape[-1]
    output = heads.build_outputs(network.head, network.head_init, features, outputs, network.task)
    return with_model(network, keras.Model(images, output, name=network.model.name))


def last_blocks(network: Network, fraction: float, argument: str = "blocks") -> frozenset[str]:
    """The operations of the backbone in its last blocks.

    Args:
        fraction: of the blocks, rounded up; 1 takes what stands before the first block too.
        argument: its name, for messages.

    Raises:
        ValueError: no fraction in (0, 1].
    """
    check_fraction(fraction, argument, upto_one=True)
    index = 0 if fraction == 1 else network.backbone.index(blocks.start_of_last(network, fraction))
    return frozenset(network.backbone[index:])


def check_fraction(value: float, argument: str, *, upto_one: bool = False) -> None:
    """Refuses what is no number between 0 and 1.

    Raises:
        ValueError: see above.
    """
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (is_number and (0 < value < 1 or (upto_one and value == 1))):
        raise ValueError(f"{argument} must be a fraction in (0, 1{']' if upto_one else ')'}")


def calling(change: Callable[[keras.Operation, tuple, dict], keras.KerasTensor | None]) -> Callable:
    """A `call_function` for copies: `change` gives the output of an operation, or None where it is called as it is."""

    def called(operation: keras.Operation, *args, **kwargs):
        found = change(operation, args, kwargs)
        return operation(*args, **kwargs) if found is None else found

    return called
