"""Statistics that are estimated anew, against the means over batches; and those of averaged weights in a run."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import splits_of
from training_runs import same, trained, watched

from kerasft.strategies import freezing
from kerasft.training import batch_norm_statistics


@pytest.mark.parametrize("momentum", [0.5, 0.99])
def test_statistics_are_the_means_over_batches(momentum):
    layer = keras.layers.BatchNormalization(momentum=momentum)
    held = keras.layers.BatchNormalization(trainable=False)
    inputs = keras.Input((3,))
    model = keras.Model(inputs, layer(held(inputs)))
    layer.moving_mean.assign([7.0, 7.0, 7.0])
    images = np.random.default_rng(0).normal(2, 3, (4, 16, 3)).astype(np.float32)
    batches = tf.data.Dataset.from_tensor_slices((images, np.zeros((4, 16))))
    batch_norm_statistics.estimate(batch_norm_statistics.training_pass(model), [layer], batches)
    seen = images / np.sqrt(1 + held.epsilon)
    np.testing.assert_allclose(layer.moving_mean, seen.mean(1).mean(0), rtol=1e-4)
    np.testing.assert_allclose(layer.moving_variance, seen.var(1).mean(0), rtol=1e-4)
    np.testing.assert_array_equal(held.moving_mean, [0, 0, 0])


@pytest.mark.parametrize("batch_norm", ["train", "hold"])
def test_averaged_weights_have_statistics_of_their_own_where_they_train(
    photos, tiny, tmp_path, monkeypatch, batch_norm
):
    runs = watched(monkeypatch)
    settings = {"phases": f"all(epochs=2, lr=1e-2, schedule=constant, batch_norm={batch_norm})", "augment": "none"}
    made = trained(
        splits_of(f"folder:{photos}", val=0.2, test=0.2), tmp_path, tiny, **settings, average="swa(last=0.5)"
    )
    (run,) = runs
    freezing.apply(made.network, run.phase)
    norms = freezing.trained_batch_norms(run.model)
    assert bool(norms) == (batch_norm == "train")
    run.model.set_weights(run.last)
    if norms:
        batches = run.stream(made.steps_per_epoch, 2 * made.steps_per_epoch)
        batch_norm_statistics.estimate(batch_norm_statistics.training_pass(run.model), norms, batches)
    same(run.model.get_weights(), run.last)
