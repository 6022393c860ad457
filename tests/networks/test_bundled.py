"""The bundled weights: in the package, small, for one backbone, and better than random ones."""

import json

import numpy as np
import pytest

from kerasft.networks import backbones, bundled
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError


@pytest.mark.parametrize(
    ("settings", "weights"),
    [
        ({}, "bundled"),
        ({"data": "generated:4x2"}, "bundled"),
        ({"backbone": "mobilenet(alpha=0.25)"}, "bundled"),
        ({"backbone": "MobileNet"}, "imagenet"),
        ({"backbone": "MobileNet(alpha=0.5)"}, "imagenet"),
        ({"backbone": "model.keras"}, "imagenet"),
        ({"data": "folder:photos"}, "imagenet"),
        ({"data": "folder:digits"}, "imagenet"),
        ({"weights": "none"}, "none"),
        ({"data": "folder:photos", "weights": "bundled"}, "bundled"),
    ],
)
def test_auto_is_bundled_for_embedded_data_only(settings, weights):
    assert bundled.resolve_weights(Config(**settings)) == weights


def test_the_file_is_small():
    assert 200_000 < bundled.PATH.stat().st_size < 1_200_000


def test_what_is_written_is_read(tmp_path, monkeypatch):
    """Vectors as they are, kernels to the precision of float16, all in their order."""
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=shape).astype(np.float32) for shape in [(3, 3, 2, 4), (4,), (4, 5), *[(2,)] * 12]]
    bundled.write(weights, tmp_path / "w.npz")
    monkeypatch.setattr(bundled, "PATH", tmp_path / "w.npz")
    for written, stored in zip(weights, bundled.read(bundled.BACKBONE), strict=True):
        assert stored.dtype == np.float32
        np.testing.assert_allclose(stored, written, rtol=1e-3 if written.ndim > 1 else 0, atol=1e-6)


@pytest.mark.parametrize("backbone", ["MobileNet", "MobileNet(alpha=0.5)", "MobileNetV2(alpha=0.35)"])
def test_another_backbone_is_refused(backbone):
    with pytest.raises(UserError, match=r"--weights: bundled is for --backbone='MobileNet\(alpha=0.25\)' alone"):
        backbones.load(backbone, "bundled", 64)


def test_they_are_what_the_network_gets():
    backbone = backbones.load(bundled.BACKBONE, "bundled", None)
    assert (backbone.size, backbone.pretrained) == (bundled.SIZE, True)
    for given, stored in zip(backbone.model.get_weights(), bundled.read(bundled.BACKBONE), strict=True):
        assert np.isfinite(given).all()
        np.testing.assert_array_equal(given, stored)


@pytest.mark.large
def test_their_features_tell_digits_apart_better_than_random_ones():
    """A linear probe on 10 digits a class, tested on 500 others."""
    import keras
    from PIL import Image
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    digits, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    train = np.concatenate([order[labels[order] == digit][:10] for digit in range(10)])
    chosen = np.concatenate([train, np.setdiff1d(order, train)[::3][:500]])
    small = [Image.fromarray(np.uint8(digit.reshape(8, 8) * 15)) for digit in digits[chosen]]
    large = np.array([np.asarray(image.resize((64, 64), Image.Resampling.BILINEAR)) for image in small], np.float32)
    images = np.repeat(large[..., None], 3, axis=3)
    accuracy = {}
    for weights in ("none", "bundled"):
        keras.utils.set_random_seed(0)
        trunk = backbones.load(bundled.BACKBONE, weights, 64).model
        features = np.mean(trunk.predict(images, verbose=0), axis=(1, 2))
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
        probe.fit(features[:100], labels[train])
        accuracy[weights] = probe.score(features[100:], labels[chosen[100:]])
    assert accuracy["bundled"] > accuracy["none"] + 0.05


@pytest.mark.large
def test_a_bare_run_needs_no_network(command, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "no weights here"))
    done = command("--per_class_limit=3", "--phases=head", "--precision=float32", "--run_dir=r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("weights: bundled, for embedded data") == 1
    settled = json.loads((tmp_path / "r" / "settled.json").read_text())
    assert (settled["weights"], settled["image_size"]) == ("bundled", bundled.SIZE)
