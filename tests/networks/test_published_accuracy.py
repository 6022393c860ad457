"""The published table of backbones against the models that Keras builds."""

import gc

import pytest

from kerasft.commands import backbones as command
from kerasft.networks import published_accuracy
from kerasft.networks.published_accuracy import BACKBONES

QUICK = 1_000_000  # parameters up to which a network is built in the quick tests


def test_every_backbone_is_in_the_table():
    from kerasft.networks import backbones

    names = {backbone.name.partition("(")[0] for backbone in BACKBONES}
    assert names == backbones.list_constructors().keys()
    assert [backbone.parameters for backbone in BACKBONES] == sorted(backbone.parameters for backbone in BACKBONES)


@pytest.mark.parametrize(
    "backbone",
    [pytest.param(row, id=row.name, marks=[pytest.mark.large] if row.parameters > QUICK else []) for row in BACKBONES],
)
def test_parameters_size_and_file_are_those_of_keras(backbone, monkeypatch):
    import keras
    from keras.src.utils import file_utils

    from kerasft.networks import backbones
    from kerasft.settings import spec as specs

    asked = []
    monkeypatch.setattr(file_utils, "get_file", lambda name, *_, **__: asked.append(name) or name)
    monkeypatch.setattr(keras.Model, "load_weights", lambda *_: None)
    found, side = specs.parse_one(backbone.name, "--backbone"), backbone.size
    constructor = backbones.list_constructors()[found.name]
    model = constructor(include_top=False, weights="imagenet", input_shape=(side, side, 3), **found.kwargs)
    assert backbones.native_size(backbone.name, "imagenet") == side
    assert (model.count_params(), asked) == (backbone.parameters, [backbone.file])
    del model
    gc.collect()


def test_weights_are_looked_for_where_keras_keeps_them(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert published_accuracy.weights_folder() == tmp_path / "models"
    first = BACKBONES[0]
    assert not published_accuracy.is_here(first)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / first.file).touch()
    assert published_accuracy.is_here(first)
    lines = command.table().splitlines()
    assert lines[1].split() == [first.name, "218,544", "224", "-", "on", "this", "machine,", "bundled"]
    assert lines[2].endswith("download")
    assert next(line for line in lines if line.startswith("ResNet50 ")).split()[1:5] == [
        "23,587,712",
        "224",
        "74.9",
        "%",
    ]


def test_without_keras_home_it_is_in_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("KERAS_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert published_accuracy.weights_folder() == tmp_path / ".keras" / "models"


def test_weights_for_any_size_of_images_need_no_download(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert published_accuracy.must_download("mobilenet(alpha=0.25)")
    assert not published_accuracy.must_download("MobileNet(alpha=0.3)")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mobilenet_2_5_160_tf_no_top.h5").touch()
    assert not published_accuracy.must_download("MobileNet(alpha=0.25)")
