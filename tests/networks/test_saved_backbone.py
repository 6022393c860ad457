"""Models as people save them: which part is the backbone, which pixels it takes, and what the user is told."""

import importlib
import sys

import keras
import numpy as np
import pytest

from kerasft.networks import depths, pixel_scaling, saved_backbone, saved_files
from kerasft.networks import network as networks
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError

layers = keras.layers


def transfer_learning(inputs):
    """The transfer learning guide of keras.io: augmentation, preprocess_input, a base in inference mode, a new head."""
    augment = keras.Sequential([layers.RandomFlip("horizontal", name="flip"), layers.RandomRotation(0.1, name="turn")])
    hidden = keras.applications.mobilenet.preprocess_input(augment(inputs))
    base = keras.applications.MobileNet(alpha=0.25, include_top=False, weights=None, input_shape=(32, 32, 3))
    hidden = layers.GlobalAveragePooling2D()(base(hidden, training=False))
    return layers.Dense(5, activation="softmax", name="logits")(layers.Dropout(0.2)(hidden))


def recurrent(inputs):
    """Convolutions, then recurrent layers over columns, and a character at each column."""
    hidden = layers.Rescaling(1 / 255)(inputs)
    for filters in (8, 12):
        hidden = layers.MaxPooling2D()(layers.Conv2D(filters, 3, padding="same", activation="relu")(hidden))
    hidden = layers.Reshape((8, 8 * 12))(layers.Permute((2, 1, 3))(hidden))
    hidden = layers.TimeDistributed(layers.Dense(16, activation="relu"), name="each")(hidden)
    hidden = layers.Bidirectional(layers.LSTM(8, return_sequences=True), name="lstm")(hidden)
    hidden = layers.Bidirectional(layers.GRU(8, return_sequences=True), name="gru")(hidden)
    return layers.Dense(11, activation="softmax")(hidden)


def transformer(inputs):
    """A vision transformer of plain layers, whose first token is classified."""
    hidden = layers.Normalization(mean=[120.0] * 3, variance=[4000.0] * 3)(inputs)
    hidden = layers.Reshape((16, 16))(layers.Conv2D(16, 8, strides=8)(hidden))
    for _ in range(2):
        tokens = layers.LayerNormalization()(hidden)
        hidden = layers.Add()([hidden, layers.MultiHeadAttention(2, 8, dropout=0.1)(tokens, tokens)])
        tokens = layers.Dense(32, activation="gelu")(layers.LayerNormalization()(hidden))
        hidden = layers.Add()([hidden, layers.Dense(16)(layers.Dropout(0.1)(tokens))])
    return layers.LayerNormalization(name="last")(hidden)


def saved(build, path, size=32):
    """Saves a model as a `.keras` file; returns what `--backbone` calls it."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((size, size, 3))
    keras.Model(inputs, build(inputs)).save(path)
    return str(path)


CASES = {
    "transfer learning": (transfer_learning, (1, 1, 256), "conv_pw_13_relu"),
    "recurrent": (recurrent, (8, 16), "gru"),
    "tokens": (transformer, (16, 16), "last"),
    "one token": (lambda inputs: layers.Dense(3)(transformer(inputs)[:, 0]), (16,), "get_item"),
    "mean of tokens": (lambda x: layers.Dense(3)(layers.GlobalAveragePooling1D()(transformer(x))), (16, 16), "last"),
    "logits as an operation": (
        lambda x: keras.ops.sigmoid(layers.Dense(1)(layers.Flatten(name="flat")(layers.Rescaling(1.0)(x)))),
        (3072,),
        "flat",
    ),
}


@pytest.mark.parametrize("kind", CASES)
def test_the_backbone_ends_before_the_head(kind, tmp_path):
    build, shape, last = CASES[kind]
    path = saved(build, tmp_path / "theirs.keras")
    network = networks.build(Config(backbone=path, head_init="he_normal"), 3, "single_label")
    assert network.model.get_layer("features").input.shape[1:] == shape
    assert network.backbone[-1] == last
    assert network.model.get_layer("features").output.shape == (None, shape[-1])


@pytest.mark.parametrize("kind", ["recurrent", "tokens"])
def test_several_depths_of_tokens_and_a_file_of_ours(kind, tmp_path):
    path = saved(CASES[kind][0], tmp_path / "theirs.keras")
    network = networks.build(Config(backbone=path, head_init="he_normal"), 3, "single_label")
    found = depths.find_depths(network)
    assert len(found) > 3
    several = depths.with_depths(network, Config(backbone=path), found)
    several.model.save(tmp_path / "ours.keras")
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    again = saved_files.read(tmp_path / "ours.keras")
    np.testing.assert_allclose(again(images), several.model(images), atol=1e-5)
    reused = networks.build(Config(backbone=str(tmp_path / "ours.keras")), 2, "single_label")
    assert reused.backbone == network.backbone


def test_features_are_those_of_the_whole_model(tmp_path):
    """The flat network with the old classifier's weights gives the old scores."""
    path = saved(transfer_learning, tmp_path / "theirs.keras")
    theirs, images = keras.models.load_model(path), np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3))
    ours = saved_backbone.load(path, None, "auto")
    assert ours.notes == ("without its augmentation layers (flip, turn); --augment augments",)
    pooled = layers.GlobalAveragePooling2D()(ours.model.output)
    scores = theirs.get_layer("logits")(keras.Model(ours.model.inputs[0], pooled)(images))
    np.testing.assert_allclose(scores, theirs(images, training=False), atol=1e-5)


def test_another_size_of_images_keeps_the_weights(tmp_path):
    def build(inputs):
        hidden = layers.Conv2D(4, 3, strides=2, padding="same")(layers.Rescaling(1 / 255)(inputs))
        return layers.Conv2D(6, 3, padding="same", activation="relu")(hidden)

    path = saved(build, tmp_path / "theirs.keras")
    own, other = (saved_backbone.load(path, size, "auto").model for size in (None, 48))
    assert (own.input_shape, other.input_shape) == ((None, 32, 32, 3), (None, 48, 48, 3))
    assert other.output_shape == (None, 24, 24, 6)
    images = np.zeros((1, 48, 48, 3), np.float32)
    images[:, :32, :32] = np.random.default_rng(0).uniform(0, 255, (32, 32, 3))
    # Away from the edges, each place of a convolutional network sees what it saw.
    expected, found = own(images[:, :32, :32])[0, :14, :14], other(images)[0, :14, :14]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["tokens", "flattened"])
def test_layers_that_fit_one_size_refuse_another(kind, tmp_path):
    def places(inputs):
        return layers.ReLU()(layers.Dense(3)(layers.Flatten()(layers.Rescaling(1.0)(inputs))))

    path = saved(transformer if kind == "tokens" else places, tmp_path / "theirs.keras")
    with pytest.raises(UserError, match=r"--image_size: this model takes images of 32x32 pixels\. Received: 64"):
        saved_backbone.load(path, 64, "auto")


def test_names_of_the_head_are_left_to_the_head(tmp_path):
    def build(inputs):
        hidden = layers.Conv2D(4, 3, name="features")(layers.Rescaling(1 / 255, name="preprocess")(inputs))
        return layers.ReLU(name="logits")(hidden)

    network = networks.build(Config(backbone=saved(build, tmp_path / "theirs.keras")), 3, "single_label")
    assert network.backbone[-2:] == ("backbone_features", "backbone_logits")


SCALED = {
    "Rescaling": (lambda x: layers.Conv2D(2, 3)(layers.Rescaling(1 / 255)(x)), True),
    "operations": (lambda x: layers.Conv2D(2, 3)(x / 255), True),
    "a shift": (lambda x: layers.Conv2D(2, 3)(keras.ops.subtract(x, 127.5)), True),
    "BatchNormalization": (lambda x: layers.Conv2D(2, 3)(layers.BatchNormalization()(x)), True),
    "behind a resize": (lambda x: layers.Conv2D(2, 3)(layers.Rescaling(1 / 255)(layers.Resizing(16, 16)(x))), True),
    "caffe": (lambda x: layers.Conv2D(2, 3)(keras.applications.vgg16.preprocess_input(x)), True),
    "nothing": (lambda x: layers.Conv2D(2, 3)(x) / 255, False),
    "a sum of two": (lambda x: layers.Conv2D(2, 3)(x + keras.ops.flip(x)), False),
}


@pytest.mark.parametrize("kind", SCALED)
def test_scaling_is_recognised_before_the_first_weights(kind):
    build, expected = SCALED[kind]
    inputs = keras.Input((32, 32, 3))
    assert pixel_scaling.has_own(keras.Model(inputs, build(inputs))) is expected


@keras.saving.register_keras_serializable("test_saved_backbone")
class Whole(keras.Model):
    """A model of somebody's class."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv = layers.Conv2D(4, 3)

    def call(self, inputs):
        return self.conv(inputs / 255)


def test_a_model_of_another_class_must_be_put_into_a_functional_one(tmp_path):
    whole = Whole(name="whole")
    whole(np.zeros((1, 32, 32, 3)))
    whole.save(tmp_path / "whole.keras")
    with pytest.raises(UserError, match=r"must be functional or Sequential; .*keras\.Model\(inputs, model\(inputs\)\)"):
        saved_backbone.load(str(tmp_path / "whole.keras"), 32, "auto")
    path = saved(lambda inputs: whole(layers.Rescaling(1.0)(inputs)), tmp_path / "wrapped.keras")
    (note,) = saved_backbone.load(path, 32, "auto").notes
    assert note == "whole (Whole): cannot be opened, so all of it is frozen or trained together"


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda x: layers.Reshape((1, 32, 32, 3))(layers.Rescaling(1.0)(x)), "features must be .*these are"),
        (lambda x: layers.Conv2D(2, 3)(x), "say how: --preprocessing=convnext, "),
    ],
)
def test_what_is_no_backbone_is_refused(build, message, tmp_path):
    with pytest.raises(UserError, match=message):
        saved_backbone.load(saved(build, tmp_path / "theirs.keras"), None, "auto")


THEIRS = """
import keras

@keras.saving.register_keras_serializable("theirs")
class Doubled(keras.layers.Layer):
    def call(self, inputs):
        return 2 * inputs
"""


def test_a_class_of_theirs_needs_the_package_that_registers_it(tmp_path, monkeypatch):
    (tmp_path / "their_layers.py").write_text(THEIRS)
    monkeypatch.syspath_prepend(tmp_path)
    theirs = importlib.import_module("their_layers")
    path = saved(lambda x: theirs.Doubled(name="doubled")(layers.Rescaling(1.0)(x)), tmp_path / "theirs.keras")
    keras.saving.get_custom_objects().pop("theirs>Doubled")
    monkeypatch.delitem(sys.modules, "their_layers")
    with pytest.raises(UserError, match=r"registered the class Doubled.*name the package .* in --allow_imports"):
        networks.build(Config(backbone=path), 2, "single_label")
    network = networks.build(Config(backbone=path, allow_imports=("their_layers",)), 2, "single_label")
    assert network.backbone[-1] == "doubled"
    # What is missing is reported by what needs it.
    saved_files.register(("no_such_package_at_all",))
