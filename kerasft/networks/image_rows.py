"""Whether a network gives one row an image: an operation may have the size of other images in its settings."""

import keras
import numpy as np

# An image of zeros would do as well with one row. Two tell a row of two images from a row of one.
_IMAGES = 2


def one_an_image(model: keras.Model) -> bool:
    """Whether a model that was built for another size computes what its shapes say.

    Keras checks its own layers when they are built. `keras.ops.reshape(x, (-1, 49, C))` is an operation that
    fits any size: where there are more than 49 places, an image becomes several rows. A layer of somebody's own may hold the
    same. So a model that has one of these is called once; another one is not, for a call takes time.

    Args:
        model: float32 [N, S, S, 3] to [N, ...], with a known S.
    """
    if not any(_may_be_for_one_size(operation) for operation in model.operations):
        return True
    import tensorflow as tf

    try:
        outputs = model(np.zeros((_IMAGES, *model.inputs[0].shape[1:]), "float32"), training=False)
    except (ValueError, TypeError, tf.errors.InvalidArgumentError):
        return False
    return tuple(outputs.shape) == (_IMAGES, *model.output.shape[1:])


def _may_be_for_one_size(operation: keras.Operation) -> bool:
    """Whether an operation is a reshaping one, or a layer that is neither Keras's nor ours."""
    if isinstance(operation, keras.Layer):
        return type(operation).__module__.partition(".")[0] not in ("keras", "kerasft")
    return type(operation).__name__ == "Reshape"
