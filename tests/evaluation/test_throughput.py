"""The rate of a forward pass."""

import keras

from kerasft.evaluation import throughput


def test_a_rate_comes_from_several_calls_with_whole_batches(monkeypatch):
    monkeypatch.setattr(throughput, "SECONDS", 0.0)
    inputs = keras.Input((8, 8, 3))
    outputs = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(inputs))
    assert throughput.images_per_second(keras.Model(inputs, outputs)) > 0
