"""What a phase is fed: the same training, cached or not; and when a cache is used."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from conftest import SMALL, splits_of
from training_runs import trained

from kerasft import augment, strategies
from kerasft.data import pipeline
from kerasft.evaluation import scoring
from kerasft.networks import network as networks
from kerasft.settings import spec as specs
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.storage.disk_cache import DiskCache
from kerasft.strategies import caching, freezing, planning, variables
from kerasft.training import phase_inputs


@pytest.fixture
def data(photos):
    return splits_of(f"folder:{photos}")


@pytest.fixture
def network(tiny):
    return networks.build(Config(backbone=tiny), 2, "single_label")


@pytest.mark.parametrize(
    ("phase", "head"),
    [
        ("head(epochs=3, lr=1e-2", "linear"),
        pytest.param("head(epochs=3, lr=1e-2", "linear(pooling='gem')", marks=pytest.mark.large),
        pytest.param("head(epochs=3, lr=1e-2", "mlp(units=(8,), dropout=0.0)", marks=pytest.mark.large),
        ("top(unfreeze='conv_3', epochs=3, lr=1e-2", "linear"),
        ("top(0.5, 3, 1e-2, 'train'", "linear(pooling='max')"),
    ],
)
def test_cached_training_gives_the_weights_of_recomputed_training(data, tiny, tmp_path, phase, head):
    settings = {"head": head, "augment": "none", "class_weights": "balanced", "average": "ema(momentum=0.5)"}
    settings["head_init"] = "auto"
    cached = trained(data, tmp_path / "a", tiny, **settings, phases=f"{phase}, views=1)")
    anew = trained(data, tmp_path / "b", tiny, **settings, phases=f"{phase}, views=0)")
    assert cached.records[-1].to_json()["cached"] is True
    assert (cached.records[-1].views, anew.records[-1].views) == (1, 0)
    for ours, theirs in zip(cached.weights, anew.weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)
    for a, b in zip(cached.rows, anew.rows, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-3)
        assert a["val_loss"] == pytest.approx(b["val_loss"], rel=1e-3)
    assert len({row["loss"] for row in cached.rows}) == 3  # it does train


def test_round_e_is_fed_view_e_mod_k(data, network, tmp_path):
    phase = strategies.head(epochs=8, views=3)
    phase = replace(phase, augment=specs.parse("crop | flip", "--augment"))
    cache = DiskCache(tmp_path, 10**9, False)
    plan = phase_inputs.plan(network, data, phase, cache)
    assert plan.views == 3
    fed = phase_inputs.activations(network, data, phase, 7, cache, plan)
    front, _ = caching.split_at_cut(network, phase)
    predict = scoring.make_predictor(front)
    layer = augment.build(phase.augment)
    for turn in (0, 2, 4):
        given = {"augment": layer, "seed": 7, "round": turn % 3}
        direct = predict(pipeline.evaluation_stream(data.train, size=32, batch_size=64, **given))
        rows = np.int64([3, 0, 11])
        np.testing.assert_allclose(fed.load(np.int64([turn] * 3), rows)[0], direct[rows], atol=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_the_halves_put_together_are_the_network(name):
    network = networks.build(Config(backbone=name, weights="none", image_size=64), 3, "single_label")
    network.model.get_layer("logits").set_weights(
        [np.random.default_rng(0).normal(size=value.shape) for value in network.model.get_layer("logits").get_weights()]
    )
    images = np.random.default_rng(1).uniform(0, 255, (2, 64, 64, 3)).astype(np.float32)
    whole = network.model(images, training=False)
    for phase in (strategies.head(), strategies.top(unfreeze=0.3)):
        front, end = caching.split_at_cut(network, phase)
        np.testing.assert_allclose(end(front(images, training=False), training=False), whole, rtol=1e-4, atol=1e-4)
        assert end.weights and not set(map(id, end.weights)) & set(map(id, front.weights))


def _plan(network, data, folder, phase, gigabytes=1.0, recipe="crop", kept=False):
    chosen = planning.parse(phase)
    recipe = () if recipe == "none" else specs.parse(recipe, "--augment")
    return phase_inputs.plan(
        network, data, replace(chosen, augment=recipe), DiskCache(folder, int(gigabytes * 1e9), kept)
    )


def test_a_cache_is_used_where_it_pays(network, data, tmp_path):
    def views(*given, **more):
        return _plan(network, data, tmp_path, *given, **more).views

    assert views("head(epochs=5)", recipe="none") == 1
    assert views("head(epochs=20)") == 5
    assert views("head(epochs=4)") == 0  # as many views as epochs
    assert views("head(epochs=1)", recipe="none") == 0
    assert views("top(0.25, 10)") > 0
    assert views("all(epochs=50)") == 0
    assert views("top('conv_1', 10)", recipe="none") == 0  # nothing with weights is frozen
    assert views("head(epochs=20, views=0)") == 0
    assert views("head(epochs=20, views=1)") == 1
    assert views("head(epochs=20)", recipe="RandomFlip") == views("head(epochs=20)", recipe="mixup") == 0
    for phase in ("head(epochs=20)", "head(epochs=4)", "norm(epochs=20)", "lora(epochs=20)"):
        assert views(phase, kept=True) == views(phase)  # a kept cache does not change what is learned
    assert "would save" in _plan(network, data, tmp_path, "head(epochs=4)").reason


def test_the_budget_bounds_the_views_then_the_precision(network, data, tmp_path):
    each = 24 * 4  # bytes: pooled features
    examples = len(data.train), len(data.val)
    available_bytes = (5 * examples[0] + examples[1]) * each / 1e9
    assert _plan(network, data, tmp_path, "head(epochs=40)", available_bytes).views == 5
    assert _plan(network, data, tmp_path, "head(epochs=40)", available_bytes).dtype == "float32"
    half = _plan(network, data, tmp_path, "head(epochs=40)", 0.6 * available_bytes)
    assert (half.views, half.dtype) == (6, "float16")
    assert "would not fit" in _plan(network, data, tmp_path, "head(epochs=40)", 0.1 * available_bytes).reason
    with pytest.raises(UserError, match=r"--cache_gb: head\(views=9\) needs .* GB; there is room for .*Received"):
        _plan(network, data, tmp_path, "head(epochs=40, views=9)", 0.5 * available_bytes)
    with pytest.raises(UserError, match=r"--phases: head\(views=4\) is not possible: its augmentation is Keras's"):
        _plan(network, data, tmp_path, "head(epochs=40, views=4)", recipe="RandomFlip")


def test_float16_is_not_taken_where_it_overflows(network, data, tmp_path):
    gamma, *others = network.model.get_layer("bn_4").get_weights()
    network.model.get_layer("bn_4").set_weights([gamma * 1e9, *others])
    available_bytes = 3 * (len(data.train) + len(data.val)) * 24 * 4 / 1e9
    assert "would not fit" in _plan(network, data, tmp_path, "head(epochs=40)", available_bytes).reason


def test_ranges_of_the_pixels_are_no_frozen_work(network):
    phase = strategies.quantised()
    assert caching.split_at_cut(variables.phase_network(network, phase), phase) is None


@pytest.mark.parametrize("task", ["multi_label", "regression"])
def test_other_tasks_train_on_activations_too(tiny, two_digits, angles, tmp_path, task):
    data = splits_of(f"csv:{two_digits if task == 'multi_label' else angles}", per_class_limit=None)
    assert data.task == task
    settings = {"head": "mlp(units=(16,))", "head_init": "auto", "augment": "none"}
    made = trained(data, tmp_path / "run", tiny, **settings, phases="head(epochs=3, lr=1e-3)")
    assert made.records[-1].views == 1
    assert np.isfinite(made.records[-1].final[0])


def test_a_second_run_takes_the_kept_activations(data, tiny, tmp_path, monkeypatch):
    settings = {"augment": "none", "keep_cache": True, "cache_dir": str(tmp_path / "kept"), "head_init": "auto"}
    trained(data, tmp_path / "a", tiny, **settings, phases="head(epochs=3)")
    spans, stream = [], pipeline.evaluation_stream
    monkeypatch.setattr(pipeline, "evaluation_stream", lambda *a, **k: spans.append(a) or stream(*a, **k))
    again = trained(data, tmp_path / "b", tiny, **settings, phases="head(epochs=4, lr=1e-2)", optimizer="sgd")
    assert again.records[-1].epochs == 4
    assert not spans  # no image was looked at


def test_a_phase_trains_on_images_of_its_size_and_is_judged_on_the_networks(photos):
    data = splits_of(f"folder:{photos}", size=96)
    network = networks.build(Config(backbone="MobileNet(alpha=0.25)", weights="none", image_size=96), 2, "single_label")
    phase = replace(strategies.full(epochs=1, image_size=48), augment=())
    freezing.apply(network, phase)
    fed = phase_inputs.images(network, data, phase, 0)
    rows = np.int64([3, 0, 11])
    halved = fed.load(np.zeros(3, np.int64), rows)[0].numpy()
    whole = data.train.images(rows).astype(np.float32)
    assert (whole.shape[1], halved.shape[1]) == (96, 48)
    np.testing.assert_allclose(halved, whole.reshape(3, 48, 2, 48, 2, 3).mean((2, 4)), atol=1e-3)
    before = fed.outputs()
    expected = network.model.predict(data.val.images(np.arange(len(data.val))).astype(np.float32), verbose=0)
    np.testing.assert_allclose(before, expected, rtol=1e-4, atol=1e-5)
    fed.model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    fed.model.fit(halved, np.int32([0, 1, 0]), verbose=0)
    assert np.abs(fed.outputs() - before).max() > 0


def test_a_phase_of_its_own_size_is_not_cached(data, tmp_path):
    network = networks.build(Config(backbone="MobileNet(alpha=0.25)", weights="none", image_size=64), 2, "single_label")
    plan = _plan(network, data, tmp_path, "top(0.25, 50, image_size=32)")
    assert (plan.views, plan.reason) == (0, "it trains on images of 32 pixels")
    assert _plan(network, data, tmp_path, "top(0.25, 50, image_size=64)").views > 0
    with pytest.raises(
        UserError, match=r"--phases: top\(views=2\) is for images of 64 pixels; leave it or image_size="
    ):
        _plan(network, data, tmp_path, "top(0.25, 50, views=2, image_size=32)")
