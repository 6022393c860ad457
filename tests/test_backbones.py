"""The catalogue: preprocessing, cut points and weights of every family named."""

import inspect

import keras
import numpy as np
import pytest
from conftest import shared

from kerasft import backbones
from kerasft.errors import UserError

FAMILIES = {
    "MobileNet(alpha=0.25)": keras.applications.mobilenet,
    "MobileNetV2(alpha=0.35)": keras.applications.mobilenet_v2,
    "MobileNetV3Small": keras.applications.mobilenet_v3,
    "ResNet50": keras.applications.resnet,
    "ResNet50V2": keras.applications.resnet_v2,
    "DenseNet121": keras.applications.densenet,
    "EfficientNetB0": keras.applications.efficientnet,
    "EfficientNetV2B0": keras.applications.efficientnet_v2,
    "ConvNeXtTiny": keras.applications.convnext,
    "VGG16": keras.applications.vgg16,
    "VGG19": keras.applications.vgg19,
    "Xception": keras.applications.xception,
    "InceptionV3": keras.applications.inception_v3,
    "InceptionResNetV2": keras.applications.inception_resnet_v2,
    "NASNetMobile": keras.applications.nasnet,
}
SIZE = 80  # InceptionV3 takes no less than 75
LARGE = ("VGG16", "VGG19", "Xception", "InceptionV3", "InceptionResNetV2", "NASNetMobile")
EVERY = [pytest.param(name, marks=pytest.mark.large) if name in LARGE else name for name in FAMILIES]


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).uniform(0, 255, (2, SIZE, SIZE, 3)).astype(np.float32)


@pytest.mark.parametrize("name", EVERY)
def test_preprocessing_is_the_familys(name, pictures):
    loaded = backbones.load(name, "none", SIZE)
    weights = loaded.model.get_weights()
    word, _, rest = name.partition("(")
    arguments = {"alpha": float(rest[6:-1])} if rest else {}
    plain = getattr(keras.applications, word)(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3), **arguments)
    plain.set_weights(weights)
    expected = plain(FAMILIES[name].preprocess_input(pictures.copy()), training=False)
    np.testing.assert_allclose(loaded.model(pictures, training=False), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", EVERY)
def test_cut_points_compose_back_to_the_same_output(name, pictures):
    model = backbones.load(name, "none", SIZE).model
    cuts = backbones.cut_points(model)
    operations = {operation.name: operation for operation in model.operations}
    assert cuts[-1] == model.operations[-1].name
    assert len(cuts) > 5
    expected = np.asarray(model(pictures, training=False))
    for place in (len(cuts) // 4, len(cuts) // 2, 3 * len(cuts) // 4):
        tensor = operations[cuts[place]].output
        prefix, suffix = keras.Model(model.inputs[0], tensor), keras.Model(tensor, model.output)
        np.testing.assert_allclose(suffix(prefix(pictures)), expected, rtol=1e-4, atol=1e-5)


def test_every_constructor_of_keras_is_in_the_catalogue():
    assert len(backbones.catalogue()) == 40


def test_no_cut_lies_inside_a_residual_block():
    inputs = keras.Input((8, 8, 3))
    first = keras.layers.Conv2D(4, 1, name="first")(inputs)
    inner = keras.layers.Conv2D(4, 1, name="inner")(first)
    joined = keras.layers.Add(name="joined")([first, inner])
    last = keras.layers.ReLU(name="last")(joined)
    model = keras.Model(inputs, last)
    assert backbones.cut_points(model)[-3:] == ("first", "joined", "last")


def test_efficientnet_from_a_file_is_scaled_as_imagenet_is(tmp_path, pictures):
    """Keras's own graph for 'imagenet' has one rescaling more than the one for a file."""
    source = inspect.getsource(keras.applications.EfficientNetB0)
    source += inspect.getsource(inspect.getmodule(keras.applications.EfficientNetB0))
    assert "1.0 / math.sqrt(stddev) for stddev in IMAGENET_STDDEV_RGB" in source  # what is made up for here
    plain = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3))
    norm = next(layer for layer in plain.layers if isinstance(layer, keras.layers.Normalization))
    norm.adapt_mean.assign(np.reshape([0.485, 0.456, 0.406], norm.adapt_mean.shape))
    norm.adapt_variance.assign(np.reshape([0.229, 0.224, 0.225], norm.adapt_variance.shape))
    norm.finalize_state()
    plain.save_weights(tmp_path / "b0.weights.h5")
    loaded = backbones.load("EfficientNetB0", str(tmp_path / "b0.weights.h5"), SIZE)
    scaled = next(layer for layer in loaded.model.layers if isinstance(layer, keras.layers.Normalization))
    std = np.array([0.229, 0.224, 0.225])
    expected = (pictures / 255 - np.array([0.485, 0.456, 0.406])) / std
    np.testing.assert_allclose(scaled(pictures / 255), expected, rtol=1e-4, atol=1e-4)
    stem = loaded.model.get_layer("stem_conv").get_weights()[0]
    np.testing.assert_array_equal(stem, plain.get_layer("stem_conv").get_weights()[0])


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("name", ["old.keras", "old.h5"])
@pytest.mark.parametrize("kept", ["classifier", "features"])
def test_a_saved_model_is_a_backbone_without_its_old_classifier(tmp_path, pictures, kept, name):
    base = backbones.load("MobileNet(alpha=0.25)", "none", SIZE).model
    pooled = keras.layers.GlobalAveragePooling2D(name="pooled")(base.output)
    top = keras.layers.Dense(7, activation="softmax")(keras.layers.Dropout(0.2)(pooled))
    keras.Model(base.inputs[0], top if kept == "classifier" else base.output).save(tmp_path / name)
    loaded = backbones.load(str(tmp_path / name), "imagenet", None)
    assert (loaded.size, loaded.pretrained) == (SIZE, True)
    expected = keras.Model(base.inputs[0], pooled if kept == "classifier" else base.output)(pictures)
    np.testing.assert_allclose(loaded.model(pictures, training=False), expected, atol=1e-5)


def test_a_saved_model_that_takes_unknown_pixels_is_refused(tmp_path):
    inputs = keras.Input((32, 32, 3))
    keras.Model(inputs, keras.layers.Conv2D(4, 3)(inputs)).save(tmp_path / "bare.keras")
    with pytest.raises(UserError, match="must begin with a Rescaling or Normalization layer"):
        backbones.load(str(tmp_path / "bare.keras"), "none", None)


@pytest.mark.parametrize(
    ("backbone", "weights", "message"),
    [
        ("MobilNet", "none", r"--backbone: must be one of .*did you mean 'MobileNet'"),
        ("MobileNet(alpa=1)", "none", r"MobileNet\(\) takes .*did you mean 'alpha'"),
        ("MobileNet(weights='imagenet')", "none", "weights is set by kerasft"),
        ("MobileNet", "nowhere.h5", "--weights: must be imagenet, none or an existing weights file"),
        ("nowhere.keras", "none", "--backbone: no such file"),
    ],
)
def test_mistakes_are_refused(backbone, weights, message):
    with pytest.raises(UserError, match=message):
        backbones.load(backbone, weights, 64)


def test_weights_of_another_network_are_refused(tmp_path):
    backbones.load("MobileNet(alpha=0.25)", "none", SIZE).model.save_weights(tmp_path / "a.weights.h5")
    with pytest.raises(UserError, match="--weights: the file does not fit MobileNetV2"):
        backbones.load("MobileNetV2(alpha=0.35)", str(tmp_path / "a.weights.h5"), 64)
    (tmp_path / "b.h5").write_bytes(b"not HDF5")
    with pytest.raises(UserError, match="--weights: the file does not fit"):
        backbones.load("MobileNet(alpha=0.25)", str(tmp_path / "b.h5"), 64)


@pytest.mark.parametrize(
    ("backbone", "file"),
    [
        ("MobileNet(alpha=0.25)", "mobilenet_0.25_224_no_top.h5"),
        ("MobileNet(alpha=0.75)", "mobilenet_0.75_224_no_top.h5"),
        ("MobileNetV2(alpha=0.35)", "mobilenet_v2_0.35_224_no_top.h5"),
    ],
)
def test_shared_weights_are_keras_own(backbone, file):
    path = shared("weights", file)
    loaded = backbones.load(backbone, str(path), None)
    word, alpha = backbone[:-1].split("(alpha=")
    plain = getattr(keras.applications, word)(
        alpha=float(alpha), include_top=False, input_shape=(224, 224, 3), weights=str(path)
    )
    for ours, theirs in zip(loaded.model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_saved_weights_load_without_top_of_keras_own_file(tmp_path):
    model = keras.applications.MobileNetV2(alpha=0.35, include_top=False, weights=None, input_shape=(96, 96, 3))
    model.save_weights(tmp_path / "own.weights.h5")
    loaded = backbones.load("MobileNetV2(alpha=0.35)", str(tmp_path / "own.weights.h5"), 96)
    for ours, theirs in zip(loaded.model.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
