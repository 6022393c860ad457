"""The pipeline: orders that start at any step, balanced or not, and the same images from wherever they come."""

import shutil

import numpy as np
import pytest
import tensorflow as tf
from conftest import audited, splits_of

from kerasft import augment
from kerasft.data import pipeline, splits
from kerasft.settings import spec as specs
from kerasft.settings.errors import UserError


def _training(split, size, layer, seed=0, **given):
    load = pipeline.augmented_images(split, size, layer, seed)
    return pipeline.training_stream(split.labels, load, seed=seed, **given).as_numpy_iterator()


def _stream(data, first, last, seed=0, batch=4, recipe="crop | flip"):
    layer = augment.build(specs.parse(recipe, "--augment"), classes=2)
    return list(_training(data.train, 32, layer, seed, batch_size=batch, first_step=first, last_step=last))


def test_a_stream_can_start_at_any_step(photos):
    data = splits_of(f"folder:{photos}")
    whole = _stream(data, 0, 21)
    assert len(whole) == 21
    for first in (1, 7, 13):
        for (a, b), (c, d) in zip(whole[first:], _stream(data, first, 21), strict=True):
            np.testing.assert_array_equal(a, c)
            np.testing.assert_array_equal(b, d)


@pytest.mark.parametrize(
    "recipe",
    [
        "randaugment(2, 9) | erase(0.25) | mixup(0.2) | cutmix",
        pytest.param("augmix | equalize", marks=pytest.mark.large),
    ],
)
def test_a_stream_of_mixed_images_can_start_at_any_step(photos, recipe):
    data = splits_of(f"folder:{photos}")
    whole = _stream(data, 0, 10, recipe=recipe)
    for ours, theirs in zip(whole[3:], _stream(data, 3, 10, recipe=recipe), strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a, b)
    labels = np.concatenate([labels for _, labels in whole])
    assert (labels.dtype, labels.shape) == ((np.float32, (40, 2)) if "mixup" in recipe else (np.int32, (40,)))


def test_an_epoch_is_a_permutation_and_epochs_differ(photos):
    data = splits_of(f"folder:{photos}")
    rows = {}
    held = data.train.images
    layer = augment.build(())
    for epoch in range(3):
        given = {"batch_size": 4, "first_step": epoch * 7, "last_step": epoch * 7 + 7}
        images = np.concatenate([a for a, _ in _training(data.train, 32, layer, **given)])
        everything = held(np.arange(28)).reshape(28, -1)
        rows[epoch] = [int(np.abs(everything - image.reshape(-1)).sum(1).argmin()) for image in images]
        assert sorted(rows[epoch]) == list(range(28))
    assert rows[0] != rows[1] != rows[2]


def test_augmentation_depends_on_seed_epoch_and_example_only(photos):
    data = splits_of(f"folder:{photos}")
    assert np.abs(_stream(data, 0, 1)[0][0] - _stream(data, 0, 1, seed=1)[0][0]).max() > 1
    # The same examples in other batches look the same: sort an epoch's images by content.
    small, large = (np.concatenate([a for a, _ in _stream(data, 0, 28 // n, batch=n)]) for n in (4, 14))
    key = lambda images: images[np.lexsort(images.reshape(28, -1)[:, :8].T)]  # noqa: E731
    np.testing.assert_allclose(key(small), key(large), atol=1e-3)


def test_images_from_files_are_those_from_memory(photos):
    data = splits_of(f"folder:{photos}")
    held = np.concatenate(list(pipeline.evaluation_stream(data.val, size=32, batch_size=3).as_numpy_iterator()))
    read = splits.Split(data.val.ids, data.val.labels, data.val.read, None)
    streamed = np.concatenate(list(pipeline.evaluation_stream(read, size=32, batch_size=3).as_numpy_iterator()))
    np.testing.assert_array_equal(held, streamed)


def _numbered(labels, layer=None, **given):
    """Per step the rows, and whatever else the stream gives, of examples that show their own number."""
    images = np.arange(len(labels), dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8)
    split = splits.Split(np.arange(len(labels)).astype(str), labels, lambda i: b"", lambda rows: images[rows])
    given = {"batch_size": 4, "first_step": 0, "last_step": 10, **given}
    stream = _training(split, 8, layer or augment.build(()), **given)
    return [(images[:, 0, 0, 0].astype(int), *others) for images, *others in stream]


@pytest.mark.parametrize("labels", [np.arange(20, dtype=np.int32) % 3, np.eye(20, 5, dtype=np.float32)])
def test_labels_of_every_form_and_weights_come_with_their_images(labels):
    weights = np.linspace(0, 2, 20, dtype=np.float32)
    for rows, given, weight in _numbered(labels, weights=weights):
        np.testing.assert_array_equal(given, labels[rows])
        np.testing.assert_array_equal(weight, weights[rows])
        assert (given.dtype, weight.dtype) == (labels.dtype, np.float32)


UNEQUAL = np.int32([0] * 40 + [1] * 7 + [2] * 2 + [3])


def test_balanced_sampling_draws_every_class_equally_often():
    steps = _numbered(UNEQUAL, sampling="balanced", last_step=60)
    rows = np.concatenate([rows for rows, _ in steps])
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in steps]), UNEQUAL[rows])
    assert np.bincount(UNEQUAL[rows]).tolist() == [60] * 4
    for label, size in enumerate(np.bincount(UNEQUAL)):
        drawn = rows[UNEQUAL[rows] == label]
        passes = [drawn[i : i + size].tolist() for i in range(0, 60 - size + 1, size)]
        assert all(sorted(one) == np.flatnonzero(label == UNEQUAL).tolist() for one in passes)  # none is left out
        assert size < 7 or len(set(map(tuple, passes))) == len(passes)
    slots = rows.reshape(-1, 4)
    assert len({tuple(UNEQUAL[turn]) for turn in slots}) > 5  # nor do the classes keep their order


@pytest.mark.parametrize("labels", [np.arange(20, dtype=np.int32) % 5, np.eye(20, 5, dtype=np.float32)])
def test_mixed_labels_are_shares_and_come_with_weights(labels):
    layer = augment.build(specs.parse("mixup(1.0)", "--augment"), classes=5)
    for rows, given, weight in _numbered(labels, layer, weights=np.full(20, 2, np.float32)):
        assert (given.dtype, given.shape) == (np.float32, (4, 5))
        assert (given.sum(1) <= 1 + 1e-5).all()
        np.testing.assert_allclose(weight, 2, rtol=1e-6)
        assert rows.shape == (4,)


def test_balanced_sampling_can_start_at_any_step():
    given = {"sampling": "balanced", "weights": np.ones(50, np.float32), "batch_size": 6, "last_step": 25}
    whole = _numbered(UNEQUAL, **given)
    for first in (1, 9, 20):
        for ours, theirs in zip(whole[first:], _numbered(UNEQUAL, **given, first_step=first), strict=True):
            for a, b in zip(ours, theirs, strict=True):
                np.testing.assert_array_equal(a, b)
    other = _numbered(UNEQUAL, **given, seed=1)
    assert any((ours[0] != theirs[0]).any() for ours, theirs in zip(whole, other))


def test_an_example_that_is_drawn_again_looks_different():
    layer = augment.build(specs.parse("color(0.5)", "--augment"))
    images = np.full((3, 8, 8, 3), 100, np.uint8)
    split = splits.Split(np.array(["a", "b", "c"]), np.int32([0, 0, 1]), lambda i: b"", lambda rows: images[rows])
    stream = _training(split, 8, layer, batch_size=2, first_step=0, last_step=8, sampling="balanced")
    lonely = [image for images, labels in stream for image in images[labels == 1]]
    assert len(lonely) == 8
    assert len({image.tobytes() for image in lonely}) == 8


def test_classes_are_mixed_in_batches_as_by_chance():
    """Of 5 classes that lie one behind the other, as folders give them."""
    labels, batch = np.sort(np.arange(1200) % 5).astype(np.int32), 32
    given = {"batch_size": batch, "seed": 0, "first_step": 0, "last_step": 37 * 40}
    stream = pipeline.training_stream(labels, lambda rounds, rows, label: (rows, label), **given)
    counts = np.array([np.bincount(label, minlength=5) for _, label in stream.as_numpy_iterator()])
    by_chance = batch * 0.2 * 0.8 * (1200 - batch) / 1199
    epochs = counts.reshape(40, 37, 5).var(1).mean(1) / by_chance
    assert abs(epochs.mean() - 1) < 0.1
    assert epochs.max() < 1.6


def test_uniforms_are_uniform_and_independent():
    rows = np.arange(1500)
    drawn = np.stack([pipeline.uniform_draws(6, 3, np.full(1500, turn), rows).numpy() for turn in range(12)])
    assert drawn.min() >= 0
    assert drawn.max() < 1
    shares = np.histogram(drawn, 20, (0, 1))[0] / drawn.size
    assert np.abs(shares - 0.05).max() < 0.003
    apart = [(drawn[1:], drawn[:-1]), (drawn[:, 1:], drawn[:, :-1]), (drawn[..., 1:], drawn[..., :-1])]
    for one, other in apart:
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) * np.sqrt(one.size) < 4
    assert pipeline.uniform_draws(0, 3, np.zeros(2, np.int64), np.arange(2)).shape == (2, 0)


def test_no_stream_is_tuned_while_it_runs():
    """The tuner's thread would hold up the end of a fit for up to a minute."""
    rows = np.zeros(8, np.int32)
    split = splits.Split(rows.astype(str), rows, lambda row: b"", None)
    load = pipeline.cached_activations([np.zeros((8, 2), np.float32)], "float32")
    given = {"batch_size": 4, "seed": 0, "first_step": 0, "last_step": 2}
    streams = [pipeline.training_stream(rows, load, **given), pipeline.evaluation_stream(split, size=8, batch_size=4)]
    assert [stream.options().autotune.enabled for stream in streams] == [False, False]


def test_an_image_that_is_gone_is_a_users_error_wherever_it_is_read(photos, tmp_path):
    root = tmp_path / "gone"
    shutil.copytree(photos, root)
    checked, _ = audited(f"folder:{root}")
    data = splits.make_splits(checked, None, 0.25, 0.25, 0)
    (root / data.val.ids[2]).unlink()
    rule = f"--data: an image can no longer be read .*Received: '{data.val.ids[2]}'"
    with pytest.raises(UserError, match=rule), pipeline.user_errors():
        list(pipeline.evaluation_stream(data.val, size=32, batch_size=3))
    with pytest.raises(tf.errors.InvalidArgumentError), pipeline.user_errors():
        tf.io.decode_image(b"another error")
