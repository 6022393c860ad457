"""Somebody's own networks through the whole command: trained in phases, exported, proven, and answering from bytes."""

import importlib.util
import json

import hub_presets
import keras
import numpy as np
import pytest
from conftest import make_image, shared

pytestmark = [
    pytest.mark.large,
    pytest.mark.filterwarnings(r"ignore:Layer 'attn' \(of type WindowAttention\)"),
    # Raised inside KerasHub and what it imports.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
layers = keras.layers


def nested(folder):
    """The transfer learning guide of keras.io, on a MobileNet with ImageNet weights."""
    weights = shared("weights", "mobilenet_0.25_224_no_top.h5")
    inputs = keras.Input((32, 32, 3))
    augment = keras.Sequential([layers.RandomFlip("horizontal"), layers.RandomRotation(0.1)])
    hidden = keras.applications.mobilenet.preprocess_input(augment(inputs))
    base = keras.applications.MobileNet(alpha=0.25, include_top=False, weights=str(weights), input_shape=(32, 32, 3))
    hidden = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(base(hidden, training=False)))
    keras.Model(inputs, layers.Dense(5, activation="softmax")(hidden)).save(folder / "nested.keras")
    return str(folder / "nested.keras")


def recurrent(folder):
    """Convolutions, then recurrent layers over columns."""
    inputs = keras.Input((32, 32, 3))
    hidden = layers.Rescaling(1 / 255)(inputs)
    for filters in (8, 12):
        hidden = layers.BatchNormalization()(layers.Conv2D(filters, 3, padding="same")(hidden))
        hidden = layers.MaxPooling2D()(layers.ReLU()(hidden))
    hidden = layers.Reshape((8, 8 * 12))(layers.Permute((2, 1, 3))(hidden))
    hidden = layers.TimeDistributed(layers.Dense(16, activation="relu"))(hidden)
    hidden = layers.Bidirectional(layers.LSTM(8, return_sequences=True, dropout=0.1))(hidden)
    keras.Model(inputs, layers.Bidirectional(layers.GRU(8))(hidden)).save(folder / "recurrent.keras")
    return str(folder / "recurrent.keras")


def hub(family):
    """A tiny network of KerasHub, saved as a preset."""

    def make(folder):
        if importlib.util.find_spec("keras_hub") is None:
            pytest.skip("needs KerasHub: pip install 'kerasft[hub]'")
        return hub_presets.save(family, folder / family)

    return make


@pytest.mark.parametrize(
    ("make", "task"),
    [(nested, "single_label"), (recurrent, "multi_label"), (hub("vit"), "regression"), (hub("swin"), "single_label")],
    ids=["nested", "recurrent", "vit", "swin"],
)
def test_through_the_whole_command(make, task, tmp_path, command, request):
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    backbone = make(tmp_path)
    if task == "multi_label":
        data = f"csv:{request.getfixturevalue('two_digits')}"
    else:
        data = f"csv:{request.getfixturevalue('angles')}" if task == "regression" else "generated:3x40"
    flags = (
        f"--data={data}",
        "--run_dir=run",
        "--export_dir=models",
        "--features=2",
        "--augment=flip",
        "--per_class_limit=60",
    )
    phases = "--phases=head | top(unfreeze=0.5, epochs=1) | all(epochs=1)"
    flags = flags[:-1] if task != "single_label" else flags
    done = command(f"--backbone={backbone}", *flags, phases, "--precision=float32", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    if make is nested:
        assert "backbone: without its augmentation layers" in done.stdout
    found = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert found["task"] == task
    assert [phase["name"] for phase in found["phases"]] == ["01-head", "02-top", "03-all"]
    assert (
        found["export"]["top1_agreement"] == 1.0 if task == "single_label" else found["export"]["max_abs_diff"] < 1e-2
    )
    assert found["artefacts"]["model.keras"].get("published", True)
    served = tf.saved_model.load(str(next((tmp_path / "models").glob("*/1"))))
    path = tmp_path / "one.jpg"
    make_image("disc", np.random.default_rng(0)).save(path)
    answer = served.signatures["serving_default"](image_bytes=tf.constant([path.read_bytes()]))
    values = answer["values" if task == "regression" else "probabilities"]
    assert values.shape[0] == 1
    assert np.isfinite(values).all()
    # The blocks are listed, and the run's model is a backbone itself.
    again = command("layers", str(tmp_path / "run" / "model.keras"), cwd=tmp_path, module="kerasft")
    assert again.returncode == 0, again.stderr
    assert "unfreeze" in again.stdout
