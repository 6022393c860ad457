"""The pipeline: orders that start at any step, balanced or not, and the same pictures from wherever they come."""

import numpy as np
from conftest import carved

from kerasft import augment, spec
from kerasft.data import pipeline, splits


def _stream(data, first, last, seed=0, batch=4):
    layer = augment.build(spec.parse("crop | flip", "--augment"))
    given = {"size": 32, "batch_size": batch, "augment": layer, "seed": seed, "first_step": first, "last_step": last}
    return list(pipeline.training_stream(data.train, **given).as_numpy_iterator())


def test_a_stream_can_start_at_any_step(photos):
    data = carved(f"folder:{photos}")
    whole = _stream(data, 0, 21)
    assert len(whole) == 21
    for first in (1, 7, 13):
        for (a, b), (c, d) in zip(whole[first:], _stream(data, first, 21), strict=True):
            np.testing.assert_array_equal(a, c)
            np.testing.assert_array_equal(b, d)


def test_an_epoch_is_a_permutation_and_epochs_differ(photos):
    data = carved(f"folder:{photos}")
    rows = {}
    held = data.train.pictures
    layer = augment.build(())
    for epoch in range(3):
        given = {
            "size": 32,
            "batch_size": 4,
            "augment": layer,
            "seed": 0,
            "first_step": epoch * 7,
            "last_step": epoch * 7 + 7,
        }
        images = np.concatenate([a for a, _ in pipeline.training_stream(data.train, **given).as_numpy_iterator()])
        everything = held(np.arange(28)).reshape(28, -1)
        rows[epoch] = [int(np.abs(everything - image.reshape(-1)).sum(1).argmin()) for image in images]
        assert sorted(rows[epoch]) == list(range(28))
    assert rows[0] != rows[1] != rows[2]


def test_augmentation_depends_on_seed_epoch_and_example_only(photos):
    data = carved(f"folder:{photos}")
    assert np.abs(_stream(data, 0, 1)[0][0] - _stream(data, 0, 1, seed=1)[0][0]).max() > 1
    # The same examples in other batches look the same: sort an epoch's pictures by content.
    small, large = (np.concatenate([a for a, _ in _stream(data, 0, 28 // n, batch=n)]) for n in (4, 14))
    key = lambda images: images[np.lexsort(images.reshape(28, -1)[:, :8].T)]  # noqa: E731
    np.testing.assert_allclose(key(small), key(large), atol=1e-3)


def test_pictures_from_files_are_those_from_memory(photos):
    data = carved(f"folder:{photos}")
    held = np.concatenate(list(pipeline.evaluation_stream(data.val, size=32, batch_size=3).as_numpy_iterator()))
    read = splits.Split(data.val.ids, data.val.labels, data.val.read, None)
    streamed = np.concatenate(list(pipeline.evaluation_stream(read, size=32, batch_size=3).as_numpy_iterator()))
    np.testing.assert_array_equal(held, streamed)
