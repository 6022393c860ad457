"""The check of maps: better than random where the reason is known, and no better where there is none."""

import keras
import numpy as np
import planted
import pytest

from kerasft.job import heat_map_check
from kerasft.networks import class_activation, heads
from kerasft.report.explain_page import verdict


def _checked(model: keras.Model, images: np.ndarray, task: str = "single_label"):
    methods = class_activation.find_methods(model, task).found
    scored = []
    figures, areas = heat_map_check.check(
        heat_map_check.make_answers(model, task), methods, images, task, scored.append
    )
    assert sum(scored) == heat_map_check.count_scored(methods, len(images))
    return figures, areas


@pytest.mark.parametrize(("outputs", "task"), [(2, "single_label"), (1, "regression")])
def test_maps_of_what_decides_are_better_than_random(outputs, task):
    images = planted.images(10)[0]
    figures, areas = _checked(planted.network(outputs=outputs), images, task)
    for name in ("grad_cam", "layer_cam"):
        assert figures[name]["verdict"] == figures[name]["verdict_other"] == "better"
        deletion = figures[name]["against_random"]["deletion"]
        assert deletion["high"] < -0.1
        assert areas[name].deletion.mean() == pytest.approx(deletion["maps"])
        assert "measurably better than random ones" in verdict("Grad-CAM", figures[name], task)
    assert (figures["n"], figures["least"]) == (10, 0.02)


def test_maps_of_random_weights_are_no_better_than_random():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((32, 32, 3))
    hidden = keras.layers.Rescaling(1 / 127.5, -1.0)(inputs)
    for filters in (8, 12):
        hidden = keras.layers.ReLU()(keras.layers.Conv2D(filters, 3, strides=2, padding="same")(hidden))
    model = keras.Model(inputs, heads.build("linear", "glorot_uniform", hidden, 2))
    figures, _ = _checked(model, planted.images(10)[0])
    for name in ("grad_cam", "layer_cam"):
        assert figures[name]["verdict"] == "no_better"
        assert "these maps explain nothing" in verdict("Grad-CAM", figures[name], "single_label")


def test_maps_of_another_network_are_no_better_on_one_that_sees_something_else():
    """A network that looks at the corner is not explained by where the patch is."""
    images = planted.images(16)[0]
    corner = images[:, :8, :8].mean((1, 2, 3))

    def answers(variants: np.ndarray) -> np.ndarray:
        bright = 1 / (1 + np.exp(-(variants[:, :8, :8].mean((1, 2, 3)) - corner.mean()) / 20))
        return np.stack([1 - bright, bright], -1)

    methods = class_activation.find_methods(planted.network(), "single_label").found
    figures, _ = heat_map_check.check(answers, methods, images, "single_label")
    assert {figures[name]["verdict"] for name in methods} == {"no_better"}


def test_one_image_has_no_interval():
    figures, _ = _checked(planted.network(), planted.images(1)[0])
    assert figures["grad_cam"]["verdict"] == "no_better"
    assert figures["grad_cam"]["against_random"]["deletion"]["low"] is None
    assert "too few images for an interval" in verdict("Grad-CAM", figures["grad_cam"], "single_label")


def test_what_is_explained_of_each_task():
    assert [one.tolist() for one in heat_map_check.choose(np.array([[0.2, 0.8], [0.9, 0.1]]), "multi_label")] == [
        [1, 0],
        [1, 1],
    ]
    columns, signs = heat_map_check.choose(np.array([[0.2, -0.8], [0.9, 0.1]]), "regression")
    assert (columns.tolist(), signs.tolist()) == ([1, 0], [-1, 1])
