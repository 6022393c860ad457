"""`resolution`: the same layers on images of another size."""

import keras

from kerasft.networks import image_rows
from kerasft.networks.network import Network
from kerasft.settings.errors import UserError


def resolution(network: Network, size: int) -> Network:
    """The network on images of another size, as in FixRes (Touvron et al. 2019).

    The layers are the network's own: both networks share one set of weights.

    Args:
        size: side of the images, in pixels; the model takes float32 [N, size, size, 3].

    Raises:
        UserError: some layers take images of the network's own size only.
    """

    def same(operation: keras.Operation) -> keras.Operation:
        # ConvNeXt's stem is a Sequential: it remembers the size, its layers do not.
        if isinstance(operation, keras.Sequential):
            return keras.Sequential(operation.layers, name=operation.name)
        return operation

    if size == network.size:
        return network
    inputs = keras.Input((size, size, 3), name=network.model.inputs[0].name)
    plain = keras.Model(network.model.inputs[0], network.model.output, name=network.model.name)
    rule = f"layers of {network.name} fit images of {network.size} pixels, not of this size; leave image_size="
    refusal = UserError(f"--phases: {rule}. Received: image_size={size}")
    try:
        model = keras.models.clone_model(plain, inputs, clone_function=same)
    except ValueError as error:
        raise refusal from error
    if not image_rows.one_an_image(model):
        raise refusal
    return network._replace(model=model, size=size)
