"""Models as people save them: which part is the backbone, which pixels it takes, and what the user is told."""

import importlib
import sys

import keras
import numpy as np
import pytest

from kerasft.networks import depths, pixel_scaling, saved_backbone, saved_files
from kerasft.networks import network as networks
from kerasft.networks.surgery import precision
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


def scored_at_one_place(inputs):
    """The end of MobileNets: a 1x1 convolution on a map of one place, which is then a vector."""
    hidden = layers.Conv2D(6, 3, activation="relu", name="last")(layers.Rescaling(1 / 255)(inputs))
    hidden = layers.Dropout(0.1)(layers.GlobalAveragePooling2D(keepdims=True)(hidden))
    return layers.Softmax()(layers.Reshape((3,))(layers.Conv2D(3, 1)(hidden)))


def flattened(inputs):
    return layers.Flatten(name="flat")(layers.Rescaling(1 / 255)(inputs))


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
    "logits at one place": (scored_at_one_place, (30, 30, 6), "last"),
    "logits over a temperature": (lambda x: keras.ops.softmax(layers.Dense(4)(flattened(x)) / 2.5), (3072,), "flat"),
    "values in other units": (lambda x: layers.Rescaling(9.0, 4.0)(layers.Dense(1)(flattened(x))), (3072,), "flat"),
    "the first of several outputs": (
        lambda x: layers.LSTM(5, return_state=True, name="lstm")(layers.Reshape((32, 96))(layers.Rescaling(1.0)(x)))[0],
        (5,),
        "lstm",
    ),
    "a dense layer over tokens": (
        lambda x: layers.Flatten(name="all")(layers.Dense(4)(transformer(x))),
        (64,),
        "all",
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


def test_probabilities_as_features_are_said(tmp_path):
    def build(inputs):
        logits = layers.Dense(4)(flattened(inputs))
        return layers.Activation("softmax", name="scores")(layers.Maximum()([logits, layers.Dense(4)(logits)]))

    (note,) = saved_backbone.load(saved(build, tmp_path / "theirs.keras"), None, "auto").notes
    assert note.startswith("scores: gives probabilities, which become the features; if that is the old head, save ")


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (lambda x: layers.Dense(4, name="last")(x), "last (4 outputs)"),
        (lambda x: layers.Normalization(mean=0.0, variance=1.0)(layers.Dense(1, name="last")(x)), "last (1 output)"),
        (
            lambda x: layers.Flatten()(layers.Conv2D(4, 1, name="last")(layers.Reshape((1, 1, -1))(x))),
            "last (4 outputs)",
        ),
        (lambda x: layers.Dense(4, activation="sigmoid")(x), None),
        (lambda x: layers.Reshape((4,))(layers.Softmax()(layers.Dense(4)(x) / 2.5)), None),
        (lambda x: layers.Identity()(layers.Dense(4)(x)), None),
    ],
)
def test_a_last_layer_that_may_have_been_one_of_the_features_is_named(end, said, tmp_path):
    found = saved_backbone.load(saved(lambda x: end(flattened(x)), tmp_path / "theirs.keras"), None, "auto")
    start = f"without its last layer {said}, taken for its head; if it belongs to the features, save the model with an "
    assert found.notes == (() if said is None else (f"{start}Identity layer behind it",))


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


@pytest.mark.parametrize("size", [48, 64])
@pytest.mark.parametrize("kind", ["tokens", "flattened", "operation"])
def test_layers_that_fit_one_size_refuse_another(kind, size, tmp_path):
    def places(inputs):
        return layers.ReLU()(layers.Dense(3)(layers.Flatten()(layers.Rescaling(1.0)(inputs))))

    def operation(inputs):
        hidden = layers.Conv2D(4, 8, strides=8)(layers.Rescaling(1.0)(inputs))
        return layers.LayerNormalization()(keras.ops.reshape(hidden, (-1, 16, 4)))

    build = {"tokens": transformer, "flattened": places, "operation": operation}[kind]
    path = saved(build, tmp_path / "theirs.keras")
    assert saved_backbone.load(path, 32, "auto").model.input_shape[1] == 32
    with pytest.raises(UserError, match=rf"--image_size: this model takes images of 32x32 pixels\. Received: {size}"):
        saved_backbone.load(path, size, "auto")


def test_a_model_for_any_size_needs_one_that_its_layers_fit(tmp_path):
    def build(inputs):
        hidden = layers.Conv2D(4, 8, strides=8)(layers.Rescaling(1.0)(inputs))
        return keras.ops.reshape(hidden, (-1, 16, 4))

    path = saved(build, tmp_path / "theirs.keras", None)
    assert saved_backbone.load(path, 32, "auto").model.output_shape == (None, 16, 4)
    for size, rule in ((64, "layers of this model do not fit this size"), (None, "is needed, for this model takes")):
        with pytest.raises(UserError, match=rf"--image_size: {rule}.*Received: {size}"):
            saved_backbone.load(path, size, "auto")


def test_images_that_are_smaller_than_a_convolution_are_refused(tmp_path):
    path = saved(lambda inputs: layers.Conv2D(4, 9)(layers.Rescaling(1.0)(inputs)), tmp_path / "theirs.keras", None)
    with pytest.raises(UserError, match=r"--image_size: layers of this model do not fit this size\. Received: 8"):
        saved_backbone.load(path, 8, "auto")


def test_names_of_the_head_are_left_to_the_head(tmp_path):
    def build(inputs):
        hidden = layers.Conv2D(4, 3, name="features")(layers.Rescaling(1 / 255, name="preprocess")(inputs))
        return layers.ReLU(name="logits")(hidden)

    network = networks.build(Config(backbone=saved(build, tmp_path / "theirs.keras")), 3, "single_label")
    assert network.backbone[-2:] == ("backbone_features", "backbone_logits")


@pytest.mark.parametrize("scaling", ["auto", "mobilenet"])
def test_names_of_what_stands_before_the_model_are_left_to_it(scaling, tmp_path):
    def build(inputs):
        hidden = layers.Rescaling(1 / 255, name="images")(inputs) if scaling == "auto" else inputs
        return layers.Conv2D(4, 3)(
            layers.AveragePooling2D(2, name="preprocess" if scaling != "auto" else "pool")(hidden)
        )

    model = saved_backbone.load(saved(build, tmp_path / "theirs.keras"), None, scaling).model
    expected = ["images", "images_1", "pool"] if scaling == "auto" else ["images", "preprocess", "preprocess_1"]
    assert [layer.name for layer in model.layers[:3]] == expected


def test_a_quantised_model_is_refused(tmp_path):
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.Rescaling(1.0), layers.Flatten(), layers.Dense(4)])
    model.layers[-1].quantize("int8")
    model.save(tmp_path / "q.keras")
    with pytest.raises(
        UserError, match=r"--backbone: must compute in floating point; .*Received: dense\w* \(int8_from"
    ):
        saved_backbone.load(str(tmp_path / "q.keras"), None, "auto")


def test_what_prepares_the_pixels_computes_in_float32_whatever_the_model_was_saved_with(tmp_path):
    def build(inputs):
        hidden = layers.Rescaling(1 / 255, dtype="mixed_bfloat16", name="scaled")(inputs)
        return layers.Conv2D(4, 3, dtype="mixed_bfloat16", name="conv")(hidden)

    network = networks.build(Config(backbone=saved(build, tmp_path / "theirs.keras")), 3, "single_label")
    for policy in ("float32", "mixed_bfloat16"):
        found = precision(network, policy)
        dtypes = [found.model.get_layer(name).dtype_policy.name for name in ("scaled", "conv", "logits")]
        assert dtypes == ["float32", policy, "float32"]
        assert precision(found, policy) is found


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
