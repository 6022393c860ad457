"""Models of models become one flat graph: each layer with a name and weights of its own, and the same outputs."""

import keras
import numpy as np
import pytest

from kerasft.networks import backbones, flattening
from kerasft.settings.errors import UserError

layers = keras.layers


@pytest.fixture
def images():
    return np.random.default_rng(0).uniform(0, 255, (2, 16, 16, 3)).astype(np.float32)


def _model(build):
    """A model of images of 16 pixels, with statistics and weights that tell images apart."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 3))
    model = keras.Model(inputs, build(inputs))
    rng = np.random.default_rng(0)
    for layer in model._flatten_layers():
        if isinstance(layer, layers.BatchNormalization) and layer.built:
            layer.moving_mean.assign(rng.normal(size=layer.moving_mean.shape))
    return model


def _open(model):
    inputs = keras.Input((16, 16, 3))
    opened = flattening.open_model(model, inputs)
    return opened, keras.Model(inputs, opened.output)


def _inner(name="inner"):
    inputs = keras.Input((None, None, 8))
    hidden = layers.BatchNormalization(name="norm")(layers.Conv2D(8, 3, padding="same", name="conv")(inputs))
    return keras.Model(inputs, layers.Add(name="add")([inputs, layers.ReLU(name="relu")(hidden)]), name=name)


def _twice_nested(inputs):
    hidden = layers.Conv2D(8, 1, name="conv")(inputs / 127.5 - 1.0)
    middle = keras.Input((16, 16, 8))
    middle = keras.Model(middle, _inner("a")(_inner("b")(middle, training=False)), name="middle")
    return middle(hidden, training=False)


def _operations(inputs):
    """What `preprocess_input` does to a ResNet's images, slices, and softmax as an operation."""
    hidden = keras.applications.resnet50.preprocess_input(inputs)
    hidden = layers.Conv2D(8, 3, name="conv")(hidden)[:, ::2, ::2]
    left, right = keras.ops.split(hidden, 2, axis=-1)
    return keras.ops.softmax(keras.ops.concatenate([right, left], axis=-1))


def _sequential(inputs):
    hidden = keras.Sequential([layers.Conv2D(8, 3, name="conv"), keras.Sequential([layers.ReLU(name="relu")])])(inputs)
    return layers.Bidirectional(layers.LSTM(4))(layers.Reshape((14, 14 * 8))(hidden))


MODELS = {
    "nested": (
        _twice_nested,
        ("conv", "conv_1", "conv_2", "norm", "norm_1", "add", "add_1", "true_divide", "subtract"),
    ),
    "operations": (_operations, ("conv", "stack", "split", "softmax")),
    "sequential": (_sequential, ("conv", "relu", "reshape", "bidirectional")),
}


@pytest.mark.parametrize("kind", MODELS)
def test_the_graph_is_flat_and_computes_the_same(kind, images):
    build, named = MODELS[kind]
    model = _model(build)
    opened, flat = _open(model)
    np.testing.assert_allclose(flat(images, training=False), model(images, training=False), atol=1e-5)
    names = [operation.name for operation in flat.operations]
    assert len(set(names)) == len(names)
    assert {name for name in named if name not in names} == set()
    assert not any(isinstance(operation, keras.Model) for operation in flat.operations)
    assert (opened.augmentations, opened.closed, opened.untied) == ((), (), ())
    # The first stays as it is.
    flat.set_weights([value + 1 for value in flat.get_weights()])
    assert not np.allclose(flat(images), model(images))


@keras.saving.register_keras_serializable("test_opening")
class Standardised(keras.layers.Layer):
    """A closed layer with statistics inside, which Keras's Normalization computes with in copies of its own."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.inner = layers.Normalization()

    def build(self, shape):
        self.inner.build(shape)

    def call(self, images):
        return self.inner(images)


def test_statistics_in_a_closed_layer_are_taken_over(images):
    def build(inputs):
        layer = Standardised(name="stem")
        hidden = layer(inputs)
        layer.inner.adapt(np.random.default_rng(0).normal(100, 30, (64, 16, 16, 3)).astype(np.float32))
        return layers.Conv2D(4, 3)(hidden)

    model = _model(build)
    _, flat = _open(model)
    expected = np.asarray(model(images))
    np.testing.assert_allclose(flat(images), expected, rtol=1e-4, atol=1e-4)
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    backbones.refresh_normalization(copy)
    np.testing.assert_allclose(copy(images), expected, rtol=1e-4, atol=1e-4)


def test_a_layer_that_is_called_twice_gets_two_copies(images):
    def build(inputs):
        shared, activation = layers.Conv2D(3, 3, padding="same", name="shared"), layers.ReLU(name="relu")
        return activation(shared(activation(shared(inputs))))

    model = _model(build)
    opened, flat = _open(model)
    np.testing.assert_allclose(flat(images), model(images), rtol=1e-5)
    # An activation has nothing to share.
    assert opened.untied == ("shared",)
    assert [layer.name for layer in flat.layers][1:] == ["shared", "relu", "shared_1", "relu_1"]


def test_low_rank_updates_are_added_to_their_kernels(images):
    inputs = keras.Input((16, 16, 3))
    hidden = layers.Dense(6, name="dense")(layers.Conv2D(8, 3, name="conv")(inputs))
    model = keras.Model(inputs, layers.EinsumDense("nhwa,ab->nhwb", (14, 14, 5), bias_axes="b")(hidden))
    for layer in model.layers[1:]:
        layer.enable_lora(2, lora_alpha=3)
        layer.lora_kernel_b.assign(keras.random.normal(layer.lora_kernel_b.shape, seed=0))
    own = keras.Input((16, 16, 3), name="images")
    flat = keras.Model(own, flattening.open_model(model, own).output)
    assert not any(layer.lora_enabled for layer in flat.layers[1:])
    np.testing.assert_allclose(flat(images), model(images), rtol=1e-4, atol=1e-4)
    flat.get_layer("dense").enable_lora(2)


def test_augmentation_is_left_out_and_a_crop_stays(images):
    def build(inputs):
        augment = keras.Sequential([layers.RandomFlip(name="flip"), layers.RandomRotation(0.1, name="rotate")])
        return layers.Conv2D(4, 3)(layers.RandomCrop(12, 12, name="crop")(augment(inputs)))

    model = _model(build)
    opened, flat = _open(model)
    assert opened.augmentations == ("flip", "rotate")
    assert "crop" in [layer.name for layer in flat.layers]
    np.testing.assert_allclose(flat(images, training=False), model(images, training=False), rtol=1e-5)


@keras.saving.register_keras_serializable("test_opening")
class Closed(keras.Model):
    """A model whose `call` only its author knows."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first, self.second = layers.Conv2D(4, 3), layers.Conv2D(4, 3)

    def call(self, inputs):
        return self.second(keras.ops.relu(self.first(inputs)))


@keras.saving.register_keras_serializable("test_opening")
class Forgetful(layers.Layer):
    """A layer whose settings lack an argument."""

    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, inputs):
        return inputs * self.factor

    def get_config(self):
        return {"name": self.name}


def test_a_class_of_its_own_stays_one_layer(images):
    model = _model(lambda inputs: layers.ReLU()(Closed(name="mine")(inputs)))
    opened, flat = _open(model)
    assert opened.closed == ("mine (Closed)",)
    np.testing.assert_allclose(flat(images), model(images), rtol=1e-5)


@keras.saving.register_keras_serializable("test_opening")
class Silent(Forgetful):
    """A layer that does not tell its settings."""

    def get_config(self):
        raise NotImplementedError("no settings")


@pytest.mark.parametrize("kind", [Forgetful, Silent])
def test_a_layer_that_cannot_be_made_again_is_named(kind):
    with pytest.raises(UserError, match=rf"--backbone: the layer mine \({kind.__name__}\) cannot be made again"):
        _open(_model(lambda inputs: kind(2.0, name="mine")(inputs)))
