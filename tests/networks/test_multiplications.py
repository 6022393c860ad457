"""The work of a forward pass, counted by hand on small networks."""

import keras

from kerasft.networks.multiplications import forward_work

# Measured: docs/benchmarks.md.
WRITE = 20


def test_multiplications_are_counted_at_each_place_and_at_each_step():
    layers = keras.layers
    inputs = keras.Input((4, 6, 3))
    image = keras.Model(inputs, layers.Conv2D(5, 3, padding="same", use_bias=False)(inputs))
    assert forward_work(image) == WRITE * (4 * 6 * 3 + 4 * 6 * 5) + 4 * 6 * (3 * 3 * 3 * 5)
    steps = keras.Input((7, 3))
    # A GRU has three kernels of 3x2 and three of 2x2.
    recurrent = keras.Model(steps, layers.GRU(2, reset_after=False, use_bias=False)(steps))
    assert forward_work(recurrent) == WRITE * (7 * 3 + 2) + 7 * (3 * 3 * 2 + 3 * 2 * 2)
    several = keras.Model(steps, keras.ops.add(*keras.ops.split(layers.Dense(4, use_bias=False)(steps), 2, axis=-1)))
    assert forward_work(several) == WRITE * (7 * 3 + 7 * 4 + 2 * 7 * 2 + 7 * 2) + 7 * 3 * 4
