"""The catalogue: preprocessing, cut points and weights of every family named."""

import inspect
import warnings

import keras
import numpy as np
import pytest
from conftest import EVERY_BACKBONE, LARGE, SMALL, shared

from kerasft.networks import backbones
from kerasft.networks import network as networks
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError

FAMILIES = {**SMALL, **LARGE}
SIZE = 80  # InceptionV3 takes no less than 75


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(0, 255, (2, SIZE, SIZE, 3)).astype(np.float32)


def _plain(name, **given):
    """Keras's own model, and its module."""
    word, _, rest = name.partition("(")
    given |= {"alpha": float(rest[6:-1])} if rest else {}
    shape = {"include_top": False, "weights": None, "input_shape": (SIZE, SIZE, 3)}
    return getattr(keras.applications, word)(**shape | given), getattr(keras.applications, FAMILIES[name])


@pytest.mark.parametrize("name", EVERY_BACKBONE)
def test_preprocessing_is_the_familys_for_all_weights_alike(name, images, tmp_path, monkeypatch):
    """Keras's own model behind `preprocess_input`, against `none`, a file, and `imagenet` with that file."""
    plain, module = _plain(name)
    if FAMILIES[name] == "efficientnet":  # as in Keras's files
        norm = next(layer for layer in plain.layers if isinstance(layer, keras.layers.Normalization))
        norm.adapt_mean.assign([0.485, 0.456, 0.406])
        norm.adapt_variance.assign([0.229, 0.224, 0.225])
    path = tmp_path / "plain.weights.h5"
    plain.save_weights(path)
    weights = [weight for weight in plain.get_weights() if weight.shape not in ((3,), ())]
    monkeypatch.setattr("keras.src.utils.file_utils.get_file", lambda *args, **kwargs: str(path))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="(?s).*will be loaded as the default")
        plain, _ = _plain(name, weights="imagenet")
    expected = np.asarray(plain(module.preprocess_input(images.copy()), training=False))
    scale = np.abs(expected).max()
    del plain
    for kind in ("none", str(path), "imagenet"):
        ours = backbones.load(name, kind, SIZE).model
        if kind == "none":
            own = [weight for weight in ours.weights if weight.shape not in ((3,), ())]
            for weight, value in zip(own, weights, strict=True):
                weight.assign(value)
        found = np.asarray(ours(images, training=False))
        np.testing.assert_allclose(found / scale, expected / scale, atol=1e-4, err_msg=kind)


@pytest.mark.parametrize("name", EVERY_BACKBONE)
def test_cut_points_compose_back_to_the_same_output(name, images):
    whole = backbones.load(name, "none", SIZE).model
    cuts = backbones.find_cut_points(whole)
    operations = {operation.name: operation for operation in whole.operations}
    assert cuts[-1] == whole.operations[-1].name
    assert len(cuts) > 5
    expected = np.asarray(whole(images, training=False))
    for place in (len(cuts) // 4, len(cuts) // 2, 3 * len(cuts) // 4):
        tensor = operations[cuts[place]].output
        prefix, suffix = keras.Model(whole.inputs[0], tensor), keras.Model(tensor, whole.output)
        np.testing.assert_allclose(suffix(prefix(images)), expected, rtol=1e-4, atol=1e-5)


def test_every_constructor_of_keras_is_in_the_catalogue_and_tested():
    assert {name.partition("(")[0] for name in FAMILIES} == set(backbones.list_constructors())
    assert len(FAMILIES) == 40


@pytest.mark.parametrize("preprocessing", ["densenet", "resnet", "dataset"])
@pytest.mark.parametrize("kind", ["none", "file", "imagenet"])
@pytest.mark.parametrize("name", ["MobileNet(alpha=0.25)", "MobileNetV3Small", "EfficientNetB0"])
def test_other_preprocessing_takes_the_place_of_the_familys(name, kind, preprocessing, images, tmp_path, monkeypatch):
    path = tmp_path / "plain.weights.h5"
    bare = {"include_preprocessing": False} if FAMILIES[name] in ("mobilenet_v3", "efficientnet_v2") else {}
    plain, _ = _plain(name, **bare)
    plain.save_weights(path)
    monkeypatch.setattr("keras.src.utils.file_utils.get_file", lambda *args, **kwargs: str(path))
    loaded = backbones.load(name, str(path) if kind == "file" else kind, SIZE, preprocessing).model
    stem = next(layer for layer in loaded.layers if isinstance(layer, keras.layers.Conv2D))
    pad = next((layer for layer in loaded.layers if isinstance(layer, keras.layers.ZeroPadding2D)), stem)
    first = pad if loaded.layers.index(pad) < loaded.layers.index(stem) else stem
    if preprocessing == "dataset":
        assert np.all(np.isnan(loaded(images)))  # what is forgotten is noticed
        network = networks.Network(loaded, name, "single_label", SIZE, True, "zeros", (), ())
        networks.set_pixel_statistics(network, np.array([100.0, 110.0, 120.0]), np.array([400.0, 900.0, 0.0]))
        expected = (images - [100, 110, 120]) / [20, 30, 1]
    else:
        expected = getattr(keras.applications, preprocessing).preprocess_input(images.copy())
    found = keras.Model(loaded.inputs[0], first.input)(images)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


def test_a_familys_own_name_is_auto(images):
    loaded = backbones.load("EfficientNetB0", "none", SIZE, "efficientnet").model
    assert "preprocess" not in [layer.name for layer in loaded.layers]


def test_no_cut_lies_inside_a_residual_block():
    inputs = keras.Input((8, 8, 3))
    first = keras.layers.Conv2D(4, 1, name="first")(inputs)
    inner = keras.layers.Conv2D(4, 1, name="inner")(first)
    joined = keras.layers.Add(name="joined")([first, inner])
    last = keras.layers.ReLU(name="last")(joined)
    assert backbones.find_cut_points(keras.Model(inputs, last))[-3:] == ("first", "joined", "last")


def test_efficientnet_from_a_file_is_scaled_as_imagenet_is(tmp_path, images):
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
    expected = (images / 255 - np.array([0.485, 0.456, 0.406])) / std
    np.testing.assert_allclose(scaled(images / 255), expected, rtol=1e-4, atol=1e-4)
    stem = loaded.model.get_layer("stem_conv").get_weights()[0]
    np.testing.assert_array_equal(stem, plain.get_layer("stem_conv").get_weights()[0])


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("name", ["old.keras", "old.h5"])
@pytest.mark.parametrize("kept", ["classifier", "features"])
def test_a_saved_model_is_a_backbone_without_its_old_classifier(tmp_path, images, kept, name):
    base = backbones.load("MobileNet(alpha=0.25)", "none", SIZE).model
    pooled = keras.layers.GlobalAveragePooling2D(name="pooled")(base.output)
    top = keras.layers.Dense(7, activation="softmax")(keras.layers.Dropout(0.2)(pooled))
    keras.Model(base.inputs[0], top if kept == "classifier" else base.output).save(tmp_path / name)
    loaded = backbones.load(str(tmp_path / name), "imagenet", None)
    assert (loaded.size, loaded.pretrained) == (SIZE, True)
    # The pooling before the classifier is left out too: the new head pools.
    np.testing.assert_allclose(loaded.model(images, training=False), base(images), atol=1e-5)


def test_the_model_of_a_run_is_a_backbone_without_its_head(tmp_path, images):
    """Its statistics included: EfficientNet's Normalization has weights of its own."""
    settings = {"weights": "none", "image_size": SIZE, "head": "mlp(pooling=max)", "head_init": "he_normal"}
    first = networks.build(Config(backbone="EfficientNetB0", **settings), 3, "single_label")
    first.model.save(tmp_path / "first.keras")
    second = networks.build(
        Config(backbone=str(tmp_path / "first.keras"), head="linear(pooling=avg)"), 5, "single_label"
    )
    assert second.model.output.shape == (None, 5)
    maps = [keras.Model(n.model.inputs[0], n.model.get_layer("features").input)(images) for n in (first, second)]
    np.testing.assert_allclose(*maps, rtol=1e-4)


def test_a_saved_model_that_takes_unknown_pixels_is_refused_until_told(tmp_path):
    inputs = keras.Input((32, 32, 3))
    keras.Model(inputs, keras.layers.Conv2D(4, 3)(inputs)).save(tmp_path / "bare.keras")
    with pytest.raises(UserError, match="must begin with a Rescaling or Normalization layer"):
        backbones.load(str(tmp_path / "bare.keras"), "none", None)
    told = backbones.load(str(tmp_path / "bare.keras"), "none", None, "densenet").model
    assert [layer.name for layer in told.layers][1] == "preprocess"
    told.save(tmp_path / "scaled.keras")
    with pytest.raises(UserError, match="--preprocessing: must be auto for a saved model"):
        backbones.load(str(tmp_path / "scaled.keras"), "none", None, "densenet")


@pytest.mark.parametrize(
    ("backbone", "weights", "message"),
    [
        ("MobilNet", "none", r"--backbone: must be one of .*did you mean 'MobileNet'"),
        ("MobileNet(alpa=1)", "none", r"MobileNet\(\) takes .*did you mean 'alpha'"),
        ("MobileNet(weights='imagenet')", "none", r"weights is set by kerasft \(see --weights"),
        ("EfficientNetV2B0(include_preprocessing=False)", "none", "is set by kerasft .see --preprocessing"),
        ("MobileNet", "nowhere.h5", "--weights: must be imagenet, bundled, none or an existing weights file"),
        ("nowhere.keras", "none", "--backbone: no such file"),
        ("MobileNet(dropout=0.5)", "none", r"dropout is set by kerasft \(see --head"),
        ("MobileNet(alpa=1)", "none", r"takes alpha, depth_multiplier, name"),
    ],
)
def test_mistakes_are_refused(backbone, weights, message):
    with pytest.raises(UserError, match=message):
        backbones.load(backbone, weights, 64)


@pytest.mark.parametrize(
    ("backbone", "preprocessing", "message"),
    [
        ("MobileNet", "mobilnet", r"--preprocessing: must be one of auto, .*did you mean 'mobilenet'"),
    ],
)
def test_mistakes_of_preprocessing_are_refused(backbone, preprocessing, message):
    with pytest.raises(UserError, match=message):
        backbones.load(backbone, "none", 64, preprocessing)


def test_weights_of_another_network_are_refused(tmp_path):
    backbones.load("MobileNet(alpha=0.25)", "none", SIZE).model.save_weights(tmp_path / "a.weights.h5")
    with pytest.raises(UserError, match="--weights: the file does not fit MobileNetV2"):
        backbones.load("MobileNetV2(alpha=0.35)", str(tmp_path / "a.weights.h5"), 64)
    (tmp_path / "b.h5").write_bytes(b"not HDF5")
    with pytest.raises(UserError, match="--weights: is not an HDF5 file; it is damaged"):
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
    plain = keras.applications.MobileNetV2(alpha=0.35, include_top=False, weights=None, input_shape=(96, 96, 3))
    plain.save_weights(tmp_path / "own.weights.h5")
    loaded = backbones.load("MobileNetV2(alpha=0.35)", str(tmp_path / "own.weights.h5"), 96)
    for ours, theirs in zip(loaded.model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_damaged_file_is_not_called_missing(tmp_path):
    for name in ("cut.keras", "cut.h5"):
        (tmp_path / name).write_bytes(b"PK\x03\x04 and no more")
        with pytest.raises(UserError, match=r"--backbone: is not .*; it is damaged, truncated"):
            backbones.load(str(tmp_path / name), "none", 64)
    with pytest.raises(UserError, match="--weights: is not an HDF5 file; it is damaged"):
        backbones.load("MobileNet", str(tmp_path / "cut.h5"), 64)


def test_a_saved_model_with_code_in_it_is_refused(tmp_path):
    inputs = keras.Input((32, 32, 3))
    outputs = keras.layers.Lambda(lambda x: x / 255)(keras.layers.Rescaling(1.0)(inputs))
    for name in ("code.keras", "code.h5"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            keras.Model(inputs, outputs).save(tmp_path / name)
        with pytest.raises(UserError, match="Keras cannot load a model from it"):
            backbones.load(str(tmp_path / name), "none", None)


def test_why_a_download_failed_is_not_cut_within_a_word(monkeypatch):
    from keras.src.utils import file_utils

    def get_file(*_, **__):
        raise OSError(f"URL fetch failure on {'x' * 150}: None -- [Errno -2] Name or service not known")

    monkeypatch.setattr(file_utils, "get_file", get_file)
    with pytest.raises(
        UserError, match=r"imagenet could not be downloaded \(URL .* Name or service not known\); choose"
    ):
        backbones.load("MobileNet(alpha=0.25)", "imagenet", 32)
