"""How far images are from those of the pretraining."""

import keras
import numpy as np
import pytest

from kerasft.data.splits import Split
from kerasft.networks import network as networks
from kerasft.settings.config import Config
from kerasft.training import batch_norm_statistics, domain_shift, head_init


def _split(images):
    return Split(
        ids=np.array([str(row) for row in range(len(images))]),
        labels=np.zeros(len(images), np.int32),
        read=lambda row: b"",
        images=lambda rows: images[rows],
        digest="",
    )


@pytest.fixture(scope="module")
def network(tiny):
    built = networks.build(Config(backbone=tiny, image_size=32), 2, "single_label")
    return built._replace(pretrained=True)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (96, 32, 32, 3), dtype=np.uint8)


def test_it_is_0_for_the_images_of_the_statistics_and_grows_with_the_distance(network, images):
    layers = [layer for layer in network.model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    batch_norm_statistics.estimate(
        batch_norm_statistics.training_pass(network.model), layers, [(images.astype(np.float32),)]
    )
    own = domain_shift.measure(network, _split(images))
    darker = [domain_shift.measure(network, _split((images * share).astype(np.uint8))) for share in (0.8, 0.5, 0.2)]
    # The statistics are of 96 images in training mode, and 64 of them are measured in inference mode.
    assert own < 0.01
    assert own < darker[0] < darker[1] < darker[2]


def test_one_channel_is_measured_in_its_variances(network, images):
    layer = network.model.get_layer("bn_1")
    inner = keras.Model(network.model.inputs[0], network.model.get_layer("conv_1").output)
    found = keras.ops.convert_to_numpy(inner(images.astype(np.float32)))
    layer.moving_mean.assign(found.mean((0, 1, 2)))
    layer.moving_variance.assign(found.var((0, 1, 2)) - layer.epsilon)
    before = domain_shift.measure(network, _split(images[:40]))
    # Two standard deviations, in one of 8 channels of one of four layers. The layers behind see the same as before, all but.
    off = np.sqrt(found.var((0, 1, 2))) * np.eye(8)[0] * 2
    layer.moving_mean.assign(found.mean((0, 1, 2)) + off)
    first_alone = keras.Model(network.model.inputs[0], network.model.get_layer("bn_1").output)
    alone = network._replace(model=first_alone)
    assert domain_shift.measure(alone, _split(images[:40])) == pytest.approx(4 / 8, abs=0.05)
    assert before < domain_shift.measure(network, _split(images[:40]))


def test_few_images_of_the_pretraining_are_not_far(network, images):
    layers = [layer for layer in network.model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    shades = np.random.default_rng(1).uniform(0.2, 1, (256, 1, 1, 1))
    drawn = (np.random.default_rng(2).integers(0, 256, (256, 32, 32, 3)) * shades).astype(np.uint8)
    pass_of = batch_norm_statistics.training_pass(network.model)
    batch_norm_statistics.estimate(pass_of, layers, [(drawn.astype(np.float32),)])
    found = [domain_shift.measure(network, _split(drawn[start : start + 16])) for start in range(0, 256, 16)]
    # Sixteen images differ from all by chance, which is taken off.
    assert np.mean(found) < 0.05
    assert domain_shift.measure(network, _split(drawn[:15])) is None


def test_nothing_is_measured_without_pretraining_or_normalisation(network, images):
    assert domain_shift.measure(network._replace(pretrained=False), _split(images)) is None
    plain = keras.Model(network.model.inputs[0], network.model.get_layer("conv_1").output)
    assert domain_shift.measure(network._replace(model=plain), _split(images)) is None


def test_activations_that_are_no_numbers_tell_nothing(images):
    # Its scale is NaN until the statistics of the pixels are set.
    settings = {"backbone": "MobileNet(alpha=0.25)", "weights": "none", "image_size": 32, "preprocessing": "dataset"}
    built = networks.build(Config(**settings), 2, "single_label")
    network = built._replace(pretrained=True)
    assert domain_shift.measure(network, _split(images)) is None
    networks.set_pixel_statistics(network, *head_init.pixel_statistics(_split(images), 32))
    assert domain_shift.measure(network, _split(images)) >= 0
