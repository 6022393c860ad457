"""How many images a second a network serves: its forward pass alone, without decoding and without a server."""

import time

import keras
import tensorflow as tf

# Images of a call.
BATCH_SIZE = 32
# Calls are timed for so long, and at least so often.
SECONDS = 2.0
MIN_CALLS = 5


def images_per_second(model: keras.Model) -> float:
    """Measures the forward pass of a network on random images, in batches of 32, by the fastest call.

    What else runs on the machine only adds to a call. So the fastest one says most about the network.

    Args:
        model: in the precision in which it is served; input [B, H, W, C] of pixels in 0 to 255.
    """
    shape = (BATCH_SIZE, *model.inputs[0].shape[1:])
    images = tf.random.uniform(shape, 0, 255, seed=0)
    signature = tf.TensorSpec(shape, model.inputs[0].dtype)
    graph = tf.function(lambda inputs: model(inputs, training=False), input_signature=[signature])
    images = tf.cast(images, model.inputs[0].dtype)
    # The first call traces the graph, and the second one still makes room.
    for _ in range(2):
        graph(images).numpy()
    seconds, started = [], time.monotonic()
    while len(seconds) < MIN_CALLS or time.monotonic() - started < SECONDS:
        begun = time.monotonic()
        graph(images).numpy()
        seconds.append(time.monotonic() - begun)
    return BATCH_SIZE / min(seconds)
