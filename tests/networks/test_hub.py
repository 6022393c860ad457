"""Networks of KerasHub: opened into blocks, with the outputs of KerasHub, frozen to the bit, saved and loaded again."""

import importlib.util
import sys

import hub_presets
import keras
import numpy as np
import pytest

from kerasft import strategies
from kerasft.networks import blocks, depths, hub, hub_layers, saved_files, surgery
from kerasft.networks import network as networks
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.slim import resizing
from kerasft.strategies import freezing, low_rank

installed = importlib.util.find_spec("keras_hub") is not None
needs_hub = pytest.mark.skipif(not installed, reason="needs KerasHub: pip install 'kerasft[hub]'")
pytestmark = [
    pytest.mark.filterwarnings(r"ignore:Layer 'attn' \(of type WindowAttention\)"),
    # Raised inside KerasHub and what it imports.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(scope="module")
def presets(tmp_path_factory):
    """Saves the preset of a family once, and builds a network on it."""
    made = {}

    def build(family, **settings):
        if family not in made:
            made[family] = hub_presets.save(family, tmp_path_factory.mktemp(family) / family)
        config = Config(**{"backbone": made[family], "head_init": "he_normal", **settings})
        return networks.build(config, 3, "single_label")

    return build


@pytest.fixture
def images():
    return np.random.default_rng(1).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)


def _features(network, images, **training):
    return np.asarray(network.model_before("features")(images, **training))


@needs_hub
@pytest.mark.parametrize("family", hub_presets.FAMILIES)
def test_blocks_are_layers_and_outputs_are_kerashubs(presets, images, family, tmp_path):
    network = presets(family)
    model, _ = hub_presets.build(family)
    model = getattr(model, "vision_encoder", model)
    pixels = images * np.float32(hub_presets.SCALE) + np.float32(hub_presets.OFFSET)
    expected = np.asarray(model(keras.tree.pack_sequence_as(model._inputs_struct, [pixels])))
    found = _features(network, images)
    if "class_token" in network.backbone:
        expected = expected[:, :1]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    named = [name for name in network.backbone if "block" in name or "layers_" in name or "encoder_" in name]
    assert len([name for name in named if name in network.cuts]) >= hub_presets.BLOCKS[family]
    assert len(blocks.starts(network)) >= hub_presets.BLOCKS[family]
    assert len(depths.find_depths(network)) > hub_presets.BLOCKS[family]
    # In mixed precision and back, and as a file.
    mixed = surgery.precision(network, "mixed_bfloat16")
    assert np.abs(_features(mixed, images) - found).max() < 0.2 * np.abs(found).max()
    np.testing.assert_array_equal(_features(surgery.precision(mixed, "float32"), images), found)
    network.model.save(tmp_path / "model.keras")
    again = saved_files.read(tmp_path / "model.keras")
    np.testing.assert_array_equal(np.asarray(again(images)), np.asarray(network.model(images)))
    reused = networks.build(Config(backbone=str(tmp_path / "model.keras")), 2, "single_label")
    np.testing.assert_array_equal(_features(reused, images), found)
    assert reused.backbone == network.backbone


@needs_hub
@pytest.mark.parametrize("family", hub_presets.FAMILIES)
@pytest.mark.parametrize("phase", [strategies.head(epochs=1), strategies.top(0.5), strategies.bias(epochs=1)], ids=str)
def test_frozen_layers_draw_nothing(presets, images, family, phase):
    network = presets(family)
    first = freezing.first_layer(network, phase)
    place = network.backbone.index(first) if first else len(network.backbone)
    cut = [name for name in network.backbone[:place] if name in network.cuts][-1]
    front = keras.Model(network.model.inputs[0], network.model.get_layer(cut).output)
    usual = np.asarray(front(images, training=False))
    freezing.apply(network, phase)
    np.testing.assert_array_equal(np.asarray(front(images, training=True)), usual)
    kept = [np.asarray(weight) for weight in front.weights]
    before = network.model.get_layer("logits").get_weights()[0]
    network.model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    network.model.fit(images, np.arange(2), verbose=0)
    assert not np.array_equal(network.model.get_layer("logits").get_weights()[0], before)
    for weight, value in zip(front.weights, kept):
        np.testing.assert_array_equal(np.asarray(weight), value)
    freezing.release(network)


@needs_hub
@pytest.mark.parametrize("family", ["vit", pytest.param("swin", marks=pytest.mark.large)])
def test_low_rank_updates_reach_the_layers_inside(presets, images, family):
    network = presets(family)
    adapted = low_rank.with_updates(network, rank=2, alpha=4.0)
    np.testing.assert_array_equal(_features(adapted, images), _features(network, images))
    phase = strategies.lora(rank=2, epochs=1)
    trained, _ = freezing.apply(adapted, phase)
    assert trained > sum(weight.shape.num_elements() for weight in network.model.get_layer("logits").weights)
    freezing.release(adapted)


@needs_hub
def test_images_of_another_size_are_refused(presets):
    with pytest.raises(UserError, match="image_size=16"):
        surgery.resolution(presets("vit"), 16)
    with pytest.raises(UserError, match=r"--image_size: this preset takes images of 32x32 pixels\. Received: 64"):
        presets("vit", image_size=64)


@needs_hub
def test_a_saved_network_of_hub_layers_keeps_its_size(presets, tmp_path):
    network = presets("vit")
    network.model.save(tmp_path / "vit.keras")
    with pytest.raises(UserError, match=r"--image_size: this model takes images of 32x32 pixels\. Received: 64"):
        networks.build(Config(backbone=str(tmp_path / "vit.keras"), image_size=64), 3, "single_label")
    assert resizing.resized(network, 64) is None


@needs_hub
def test_a_preset_without_an_image_converter_must_be_told_its_preprocessing(tmp_path):
    name = hub_presets.save("vit", tmp_path / "bare", converter=False)
    with pytest.raises(UserError, match=r"--backbone: must begin with .* --preprocessing=.*Received: 'hub:"):
        hub.load(name, "imagenet", None, "auto")
    model = hub.load(name, "none", None, "mobilenet")[0]
    assert [layer.name for layer in model.layers][:2] == ["images", "preprocess"]


@needs_hub
def test_what_is_no_preset_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"did you mean 'vit_base_patch16_224_imagenet'.*no name of a preset"):
        hub.load("hub:vit_bas_patch16_224_imagenet", "none", None, "auto")
    with pytest.raises(UserError, match="--weights: must be auto"):
        hub.load(f"hub:{tmp_path}", "my.h5", None, "auto")
    with pytest.raises(UserError, match="must be a layer of KerasHub"):
        hub_layers.HubLayer("models.vit.vit_layers.keras", {})
    with pytest.raises(UserError, match="has no such layer"):
        hub_layers.HubLayer("models.vit.vit_layers.Missing", {})


def test_without_the_extra_the_error_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    with pytest.raises(UserError, match=r"pip install 'kerasft\[hub\]'\. Received: 'hub:vit'"):
        hub.load("hub:vit", "none", None, "auto")
