"""The user's own code in cache keys: an edit changes the key; code that has a version leaves it as it was."""

import importlib
import sys

import keras
import numpy as np
import pytest

from kerasft import augment
from kerasft.data import splits
from kerasft.settings import spec as specs
from kerasft.storage import feature_cache, own_code
from kerasft.storage.feature_cache import CachedAugmentation

OWN = """
import keras

class Scale(keras.layers.Layer):
    def call(self, x, training=False):
        return x * {factor}

    def compute_output_shape(self, shape):
        return shape

def act(x):
    return x * {factor}

def scaled() -> keras.layers.Layer:
    return keras.layers.Rescaling({factor})
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes the module `own_code_of_a_user` and returns it, imported anew as another run would."""
    monkeypatch.syspath_prepend(tmp_path)
    name = "own_code_of_a_user"

    def written(factor):
        (tmp_path / f"{name}.py").write_text(OWN.format(factor=factor))
        sys.modules.pop(name, None)
        importlib.invalidate_caches()
        return importlib.import_module(name)

    yield written
    sys.modules.pop(name, None)


@pytest.fixture(autouse=True)
def no_bytecode(monkeypatch):
    # Two edits within a second would else be one.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)


def _digest(layer):
    inputs = keras.Input((4, 4, 3), name="images")
    return feature_cache.make_prefix(keras.Model(inputs, layer(inputs))).digest


@pytest.mark.parametrize(
    "make",
    [
        lambda own: own.Scale(name="own"),
        lambda own: type("Heir", (own.Scale,), {"__module__": "keras.heirs"})(name="own"),
        lambda own: keras.layers.TimeDistributed(own.Scale(name="inner"), name="own"),
        lambda own: keras.Sequential([keras.Input((4, 4, 3), name="given"), own.Scale(name="inner")], name="own"),
        lambda own: keras.layers.Activation(own.act, name="own"),
        lambda own: keras.layers.Lambda(own.act, name="own"),
    ],
    ids=["layer", "heir", "wrapped", "nested", "activation", "lambda"],
)
def test_an_edited_layer_has_another_key(make, write):
    before = _digest(make(write(2.0)))
    assert _digest(make(write(2.0))) == before
    assert _digest(make(write(3.0))) != before


@pytest.mark.parametrize("recipe", ["own_code_of_a_user.Scale", "flip | own_code_of_a_user.scaled"])
def test_an_edited_augmentation_has_another_key(recipe, write):
    split = splits.Split(np.array(["1.jpg"]), np.zeros(1, np.int32), None, None, "digest")
    inputs = keras.Input((32, 32, 3))
    prefix = feature_cache.make_prefix(keras.Model(inputs, keras.layers.Flatten()(inputs)))

    def key(factor):
        write(factor)
        layer = augment.build(specs.parse(recipe, "--augment"))
        return feature_cache._entry_name(prefix, split, 32, CachedAugmentation(layer, recipe, 0, 0), "float32")

    assert key(1.0) == key(1.0) != key(2.0)


def test_code_that_has_a_version_adds_nothing():
    model = keras.applications.MobileNet(input_shape=(32, 32, 3), alpha=0.25, weights=None)
    layer = augment.build(specs.parse("crop | flip | RandomContrast(0.2)", "--augment"))
    assert own_code.digests([*model.operations, *layer.layers, *own_code.named("crop | flip | erase(0.5)")]) == []


def test_code_without_a_file_is_known_in_this_process_only(monkeypatch):
    space = {"__name__": "typed_in"}
    exec("def act(x):\n    return x", space)
    module = type(sys)("typed_in")
    monkeypatch.setitem(sys.modules, "typed_in", module)
    (here,) = own_code.digests([space["act"]])
    assert own_code.digests([space["act"]]) == [here]
    own_code._digest.cache_clear()
    monkeypatch.setattr(own_code, "_PROCESS", "another")
    assert own_code.digests([space["act"]]) != [here]
