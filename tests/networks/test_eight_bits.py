"""Rounded kernels: 255 values a channel, whatever the channel is multiplied by; and what their errors do to the outputs."""

import keras
import numpy as np
import pytest

from kerasft.networks import eight_bits

LAYERS = keras.layers


@pytest.mark.parametrize(
    ("layer", "depthwise"),
    [
        (lambda: LAYERS.Conv2D(6, 3), False),
        (lambda: LAYERS.Conv2D(6, 3, groups=2), False),
        (lambda: LAYERS.DepthwiseConv2D(3, depth_multiplier=2), True),
        (lambda: LAYERS.Dense(5), False),
    ],
    ids=["conv", "groups", "depthwise", "dense"],
)
def test_the_shift_is_the_mean_of_what_the_error_does(layer, depthwise):
    """On inputs that are constant over an image, whatever the kernel."""
    rng, made = np.random.default_rng(2), layer()
    values = rng.normal(1.0, 0.5, (5, 4)).astype(np.float32)
    inputs = values if isinstance(made, LAYERS.Dense) else np.tile(values[:, None, None], (1, 7, 7, 1))
    made.build(inputs.shape)
    kernel, bias = made.get_weights()
    exact = np.asarray(made(inputs))
    rounded = eight_bits.round_kernel(rng.normal(size=kernel.shape).astype(np.float32), depthwise)
    made.set_weights([kernel - rounded, bias])
    gap = (exact - np.asarray(made(inputs))).reshape(-1, exact.shape[-1]).mean(0)
    np.testing.assert_allclose(eight_bits.output_shift(rounded, values.mean(0), depthwise), gap, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("shape", "depthwise"), [((3, 3, 4, 2), True), ((3, 3, 4, 5), False), ((4, 5), False)])
def test_a_rounded_kernel_has_255_values_a_channel(shape, depthwise):
    kernel = np.random.default_rng(3).normal(size=shape).astype(np.float32)
    kernel[..., -1] = 0
    rounded = eight_bits.round_kernel(kernel, depthwise)
    channels = kernel.reshape(-1, shape[-2] * shape[-1] if depthwise else shape[-1])
    steps = np.abs(channels).max(0) / 127
    assert (np.abs(rounded - kernel).reshape(channels.shape) <= steps / 2 + 1e-6).all()
    levels = rounded.reshape(channels.shape) / np.where(steps == 0, 1, steps)
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-3)
    assert (rounded[..., -1] == 0).all()
