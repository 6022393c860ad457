"""Erasing and mixing: shares and boxes as the papers draw them, labels and weights that follow the pixels."""

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from kerasft import augment
from kerasft.augment import mixing
from kerasft.settings import spec as specs
from kerasft.settings.errors import UserError

SIDE = 64


def _layer(text: str, **given) -> augment.Augment:
    return augment.build(specs.parse(text, "--augment"), **given)


def _draws(layer: augment.Augment, count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, layer.draws), np.float32)


def _flat(count: int) -> tf.Tensor:
    """Images of one value each: their number."""
    return tf.broadcast_to(tf.range(count, dtype=tf.float32)[:, None, None, None], [count, SIDE, SIDE, 3])


def test_erasing_paints_a_box_of_one_colour_in_a_share_of_the_images():
    layer = _layer("erase(0.25)")
    images = np.full((400, SIDE, SIDE, 3), -1, np.float32)
    found = layer(images, _draws(layer, 400)).numpy()
    painted = (found != -1).all(-1)
    hit = painted.any((1, 2))
    assert hit.mean() == pytest.approx(0.25, abs=0.06)
    sizes, ratios = [], []
    for image, mask in zip(found[hit], painted[hit]):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert mask.sum() == len(rows) * len(columns)  # a box
        assert len(np.unique(image[mask], axis=0)) == 1
        assert 0 <= image[mask].min() <= image[mask].max() <= 255
        sizes.append(mask.mean())
        ratios.append(len(columns) / len(rows))
    assert 0.015 < min(sizes) < max(sizes) < 0.42
    assert 0.25 < min(ratios) < max(ratios) < 4
    untouched = _layer("erase(0)")
    np.testing.assert_array_equal(untouched(images[:50], _draws(untouched, 50)), images[:50])


def test_mixup_mixes_images_and_labels_alike():
    layer = _layer("mixup(0.2)", classes=8)
    draws, images = _draws(layer, 8), np.random.default_rng(1).uniform(0, 255, (8, SIDE, SIDE, 3)).astype(np.float32)
    mixed, labels = layer.mix(draws, images, tf.range(8))
    labels = labels.numpy()
    own = labels[np.arange(8), np.arange(8)]
    np.testing.assert_allclose(labels[np.arange(8), np.arange(8) - 1], 1 - own, atol=1e-6)
    np.testing.assert_allclose(labels.sum(1), 1, atol=1e-6)
    own = own[:, None, None, None]
    np.testing.assert_allclose(mixed, own * images + (1 - own) * np.roll(images, 1, 0), atol=1e-3)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_follow_their_beta_distribution(alpha):
    layer = _layer(f"mixup({alpha})", classes=2)
    draws = _draws(layer, 20_000)
    labels = layer.mix(draws, tf.zeros([20_000, 1, 1, 3]), tf.range(20_000) % 2)[1].numpy()
    own = labels[np.arange(20_000), np.arange(20_000) % 2]
    places = np.linspace(0.001, 0.999, 50)  # nearer to the ends float32 has too few steps
    found = (own[:, None] <= places).mean(0)
    np.testing.assert_allclose(found, scipy.stats.beta(alpha, alpha).cdf(places), atol=0.015)


def test_cutmix_pastes_a_box_and_mixes_labels_by_its_pixels():
    layer = _layer("cutmix", classes=50)
    draws = _draws(layer, 50)
    mixed, labels = (value.numpy() for value in layer.mix(draws, _flat(50), tf.range(50)))
    everything = np.arange(50)
    foreign = (mixed == (everything[:, None, None, None] - 1) % 50).all(-1)
    assert (foreign | (mixed == everything[:, None, None, None]).all(-1)).all()
    np.testing.assert_allclose(labels[everything, everything - 1], foreign.mean((1, 2)), atol=1e-6)
    np.testing.assert_allclose(labels.sum(1), 1, atol=1e-6)
    for mask in foreign:
        assert mask.sum() == mask.any(1).sum() * mask.any(0).sum()
    drawn, found = 1 - draws[:, 1], foreign.mean((1, 2))
    assert (found <= drawn + 0.05).all()  # cut at the edges
    inner = foreign[:, 0].sum(1) + foreign[:, -1].sum(1) + foreign[:, :, 0].sum(1) + foreign[:, :, -1].sum(1) == 0
    assert inner.sum() > 5
    np.testing.assert_allclose(found[inner], drawn[inner], atol=0.03)


def test_of_two_ways_each_image_gets_one():
    layer = _layer("mixup(4.0) | cutmix(1.0)", classes=2)
    mixed, _ = layer.mix(_draws(layer, 400), _flat(400), tf.range(400) % 2)
    values = [len(np.unique(image)) for image in mixed.numpy()[1:]]
    assert max(values) == 2
    assert 0.35 < np.mean(np.array(values) == 2) < 0.6  # cutmix; else one value, mixed


def test_several_labels_are_mixed_as_they_are():
    layer = _layer("mixup(4.0)", task="multi_label", classes=3)
    given = np.float32([[1, 0, 1], [0, 0, 0], [0, 1, 1]])
    _, labels = layer.mix(_draws(layer, 3), _flat(3), tf.constant(given))
    share = labels.numpy()[0, 0]
    np.testing.assert_allclose(labels[0], share * given[0] + (1 - share) * given[2], atol=1e-6)


def test_weights_are_mixed_so_that_the_loss_is_that_of_the_parts():
    layer = _layer("mixup(4.0)", classes=3)
    weights, draws = tf.constant([0.5, 2.0, 1.0, 3.0]), _draws(layer, 4)
    targets = tf.constant([0, 1, 2, 0])
    _, shares = _layer("mixup(4.0)", classes=4).mix(draws, _flat(4), tf.range(4))
    _, labels, mixed = layer.mix(draws, _flat(4), targets, weights)
    log_p = tf.math.log_softmax(tf.random.stateless_normal([4, 3], [0, 1])).numpy()
    own = np.diag(shares.numpy())
    parts = -weights.numpy() * log_p[np.arange(4), targets.numpy()]
    others = -np.roll(weights.numpy(), 1) * log_p[np.arange(4), np.roll(targets.numpy(), 1)]
    np.testing.assert_allclose(
        mixed.numpy() * -(labels.numpy() * log_p).sum(1), own * parts + (1 - own) * others, rtol=1e-4
    )
    np.testing.assert_allclose(labels.numpy().sum(1), 1, atol=1e-6)


def test_without_mixing_nothing_is_touched():
    layer, labels = _layer("flip | erase"), tf.range(3)
    images = _flat(3)
    assert layer.mix(_draws(layer, 3), images, labels) == (images, labels)
    assert mixing.count_draws(()) == 0


@pytest.mark.parametrize("text", ["MixUp", "Mix_Up(0.2)", "CutMix"])
def test_the_spelling_of_the_papers_mixes_labels_too(text):
    layer = _layer(text, classes=3)
    assert (len(layer.mixes), layer.layers) == (1, ())
    _, labels = layer.mix(_draws(layer, 40), _flat(40), tf.range(40) % 3)
    assert ((labels.numpy() > 0.01).sum(1) > 1).any()


@pytest.mark.parametrize("name", ["keras.layers.MixUp", "keras.layers.CutMix"])
def test_layers_that_mix_images_without_labels_are_refused(name):
    with pytest.raises(
        UserError, match=rf"{name} would mix images but not their labels; use mixup or cutmix. Received"
    ):
        _layer(name)


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_values_are_not_mixed(name):
    with pytest.raises(UserError, match=rf"{name} mixes labels, which regression does not have. Received: '{name}'"):
        _layer(f"flip | {name}", task="regression")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mixup(0)", r"alpha must be a number in \[0.01, 100\]"),
        ("cutmix('much')", "alpha must be a number"),
        ("erase(2)", r"probability must be a number in \[0, 1\]"),
        ("erase(0.5, area=(0.5, 0.1))", "area must be a pair of rising numbers"),
    ],
)
def test_mistakes_are_refused(text, message):
    with pytest.raises(UserError, match=message):
        _layer(text)
