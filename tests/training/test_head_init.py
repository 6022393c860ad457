"""Where training starts: statistics, the solved head, and whether mirroring is harmless."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import audited
from PIL import Image, ImageDraw

from kerasft.augment import DEFAULT_AUGMENT
from kerasft.data import pipeline, splits
from kerasft.evaluation import scoring
from kerasft.evaluation.scoring import Scorer
from kerasft.networks import network as networks
from kerasft.settings.config import Config
from kerasft.storage.disk_cache import DiskCache
from kerasft.training import head_init


def _data(root, draw):
    """Two classes of 40 images that `draw(canvas, class, x, y)` paints."""
    rng = np.random.default_rng(0)
    for label in range(2):
        (root / str(label)).mkdir(parents=True)
        for index in range(40):
            image = Image.new("RGB", (32, 32), tuple(int(v) for v in rng.integers(20, 40, 3)))
            draw(ImageDraw.Draw(image), label, *(int(v) for v in rng.integers(2, 8, 2)))
            image.save(root / str(label) / f"{index}.png")
    listing, images = audited(f"folder:{root}")
    # All of them are near duplicates, which would stand in one split.
    return splits.make_splits(replace(listing, near_groups=None), images, 0.2, 0.2, 0)


def _left_or_right(canvas, label, x, y):
    left = x if label == 0 else 22 - x
    canvas.rectangle((left, y, left + 8, y + 20), fill=(250, 250, 250))


def _high_or_low(canvas, label, x, y):
    top = y if label == 0 else 22 - y
    canvas.rectangle((x, top, x + 20, top + 8), fill=(250, 250, 250))


@pytest.fixture
def network():
    """A backbone that keeps the places of things: its features are the pixels of a small image."""
    import keras

    built = networks.build(
        Config(backbone="MobileNet(alpha=0.25)", weights="none", image_size=32, head_init="probe"), 2, "single_label"
    )
    inputs = keras.Input((32, 32, 3))
    small = keras.layers.Flatten()(keras.layers.AveragePooling2D(4)(inputs))
    from kerasft.networks import heads

    logits = heads.build("linear", "probe", small, 2)
    return built._replace(model=keras.Model(inputs, logits), pretrained=True)


@pytest.mark.parametrize(("draw", "harmless"), [(_left_or_right, False), (_high_or_low, True)])
def test_mirroring_is_chosen_where_it_is_harmless(network, tmp_path, draw, harmless):
    data = _data(tmp_path / "set", draw)
    start = head_init.prepare(
        Config(), network, data, Scorer("single_label", data.val.labels), DiskCache(tmp_path, 10**9, False)
    )
    assert start.augment == DEFAULT_AUGMENT + (" | flip" if harmless else "")
    network.model.get_layer("logits").set_weights(start.solution)
    logits = scoring.make_predictor(network.model)(pipeline.evaluation_stream(data.val, size=32, batch_size=8))
    assert Scorer("single_label", data.val.labels).score(logits) > 0.9


@pytest.mark.parametrize("pretrained", [True, False])
def test_without_evidence_nothing_is_mirrored_and_it_is_said(network, tmp_path, capsys, pretrained):
    """Images that say nothing about their class: their probe's loss is the same in the mirror."""
    data = _data(tmp_path / "set", lambda canvas, label, x, y: canvas.rectangle((x, y, x + 8, y + 8), fill=(250,) * 3))
    given = data, Scorer("single_label", data.val.labels), DiskCache(tmp_path, 10**9, False)
    start = head_init.prepare(Config(), network._replace(pretrained=pretrained, head_init="zeros"), *given)
    assert start.augment == DEFAULT_AUGMENT
    why = "the probe tells '0' from '1' not measurably better" if pretrained else "no pretrained features"
    assert why in start.reason
    assert f"augmentation: {DEFAULT_AUGMENT}, no mirroring: {start.reason}" in capsys.readouterr().out


def test_a_phase_may_be_automatic_where_the_flag_is_not(network, tmp_path):
    data = _data(tmp_path / "set", _high_or_low)
    scorer, cache = Scorer("single_label", data.val.labels), DiskCache(tmp_path, 10**9, False)
    start = head_init.prepare(Config(augment="none"), network, data, scorer, cache, automatic=True)
    assert start.augment == DEFAULT_AUGMENT + " | flip"


def test_a_recipe_of_ones_own_is_left_alone(network, tmp_path):
    data = _data(tmp_path / "set", _high_or_low)
    start = head_init.prepare(
        Config(augment="rotate(3)"),
        network,
        data,
        Scorer("single_label", data.val.labels),
        DiskCache(tmp_path, 10**9, False),
    )
    assert start.augment == "rotate(3)"


@pytest.mark.parametrize("enough", [1, 1000])
def test_the_speed_of_few_images_is_timed_on_a_traced_graph(network, tmp_path, monkeypatch, enough):
    monkeypatch.setattr(head_init, "MIN_IMAGES_TO_TIME", enough)
    monkeypatch.setattr(head_init.forward_speed, "measure", lambda predict, size, *_: -1.0 * size)
    data = _data(tmp_path / "set", _high_or_low)
    given = network, data, Scorer("single_label", data.val.labels), DiskCache(tmp_path, 10**9, False)
    speed = head_init.prepare(Config(augment="rotate(3)"), *given).speed
    assert speed == -32.0 if enough > len(data.train) else speed > 0


def test_features_are_standardised(network, tmp_path):
    data = _data(tmp_path / "set", _high_or_low)
    head_init.prepare(
        Config(), network, data, Scorer("single_label", data.val.labels), DiskCache(tmp_path, 10**9, False)
    )
    import keras

    scaled = keras.Model(network.model.inputs[0], network.model.get_layer("standardise").output)
    values = scoring.make_predictor(scaled)(pipeline.evaluation_stream(data.train, size=32, batch_size=64))
    np.testing.assert_allclose(values.mean(0), 0, atol=1e-3)
    assert values.std() == pytest.approx(1, abs=0.2)


def test_a_second_run_on_the_same_cache_solves_nothing(network, tmp_path, monkeypatch):
    data = _data(tmp_path / "set", _high_or_low)
    given = data, Scorer("single_label", data.val.labels), DiskCache(tmp_path / "cache", 10**9, True)
    first = head_init.prepare(Config(), network, *given)
    monkeypatch.setattr(head_init.linear_probe, "solve", None)
    monkeypatch.setattr(head_init, "_outputs", None)
    second = head_init.prepare(Config(), network, *given)
    assert second.augment == first.augment
    for ours, theirs in zip(second.solution, first.solution, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(TypeError):  # of another seed the folds are others
        head_init.prepare(Config(seed=1), network, *given)
