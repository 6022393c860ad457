"""The versions in cache keys: where one of these tests fails, pixels or solutions have changed, and the version is to be raised.

Then write the new numbers down here. A comment, or a change that gives the same, leaves kept caches as they are.
"""

import io

import numpy as np
import pytest
import tensorflow as tf
from conftest import make_image

from kerasft import augment
from kerasft.data import decode, pipeline
from kerasft.probes import linear_probe
from kerasft.settings import spec as specs

# Of each image, by place: the mean of its channels.
DECODED = [
    [43.0, 45.0, 191.0, 45.0, 47.0],
    [43.0, 45.0, 192.0, 45.0, 47.0],
    [45.0, 44.0, 190.0, 47.0, 46.0],
    [44.0, 46.0, 192.0, 43.0, 49.0],
]
# By recipe: mean, deviation, and means at the places.
AUGMENTED = {
    "crop | flip": [73.546, 53.706, 45.969, 55.393, 179.467, 45.592, 44.069],
    "color(0.3) | rotate(15)": [70.524, 50.218, 45.175, 47.631, 202.477, 52.434, 50.27],
    "zoom | translate | shear": [67.991, 49.573, 42.513, 43.368, 178.603, 44.763, 46.006],
    "randaugment(2, 9)": [71.023, 36.289, 58.579, 70.955, 129.38, 59.849, 59.181],
    "erase(1.0)": [84.603, 67.828, 44.0, 44.667, 195.672, 102.168, 47.0],
}
# By task: the kernel, row by row, and the bias.
SOLVED = {
    "single_label": [
        0.6386,
        -0.5622,
        -0.0764,
        -1.0849,
        1.3353,
        -0.2504,
        -0.7667,
        1.4507,
        -0.684,
        -1.0013,
        0.7824,
        0.2189,
        -0.1683,
        -0.0736,
        0.2419,
    ],
    "multi_label": [
        2.0846,
        -0.4877,
        2.9786,
        -0.4612,
        2.3292,
        0.5352,
        -0.3021,
        3.5687,
        -0.0979,
        -1.6246,
        -0.1311,
        -0.7498,
        -0.1725,
        -0.0978,
        0.2135,
    ],
    "regression": [
        0.5389,
        -0.0769,
        0.7785,
        -0.1738,
        0.5129,
        0.0177,
        -0.1007,
        0.6977,
        -0.1844,
        -0.5062,
        0.0631,
        -0.0888,
        0.0745,
        0.1189,
        0.0007,
    ],
}
PLACES = ([0, 3, 7, 11, 15], [1, 14, 8, 2, 15])


def _image(side):
    return make_image("disc", np.random.default_rng(3), 60, 60).resize((side, side))


def test_the_decoder_is_that_of_its_version():
    found = []
    for side, form in ((60, "PNG"), (20, "PNG"), (12, "BMP"), (90, "JPEG")):
        buffer = io.BytesIO()
        _image(side).save(buffer, form)
        found.append(decode.decode(tf.constant(buffer.getvalue()), 16, "crop").numpy()[PLACES].mean(-1).astype(int))
    assert decode.DECODER_VERSION == 2
    np.testing.assert_allclose(found, DECODED, atol=1)


RECIPES = (
    "crop | flip",
    "color(0.3) | rotate(15)",
    "zoom | translate | shear",
    "randaugment(2, 9)",
    "erase(1.0)",
)


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_augmentation_is_that_of_its_version(recipe):
    layer = augment.build(specs.parse(recipe, "--augment"))
    images = np.stack([np.asarray(_image(16 + side).resize((16, 16))) for side in (20, 40)])
    draws = pipeline.uniform_draws(layer.draws, 5, tf.constant([0, 1], tf.int64), tf.constant([3, 4], tf.int64))
    found = np.asarray(layer(images, draws))
    assert augment.AUGMENT_VERSION == 1
    np.testing.assert_allclose(
        [found.mean(), found.std(), *found[:, PLACES[0], PLACES[1]].mean((0, 2))],
        AUGMENTED[recipe],
        rtol=0.01,
        atol=0.5,
    )


@pytest.mark.parametrize("task", ["single_label", "multi_label", "regression"])
def test_the_solver_is_that_of_its_version(task):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 4)).astype(np.float32)
    values = features @ rng.normal(size=(4, 3)) + rng.normal(size=(60, 3))
    labels = {
        "single_label": values.argmax(1).astype(np.int32),
        "multi_label": (values > 0).astype(np.float32),
        "regression": values.astype(np.float32),
    }[task]
    found = linear_probe.solve(features, labels, 3, task, 0)
    assert linear_probe.SOLVER_VERSION == 4
    np.testing.assert_allclose([*found.kernel.ravel(), *found.bias], SOLVED[task], atol=2e-3)
