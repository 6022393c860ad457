"""The choice of a precision: by what was measured, and not where it must not or need not be."""

import numpy as np
import pytest

from kerasft import model, phases, precision
from kerasft.config import Config

SMALL = {"backbone": "MobileNet(alpha=0.25)", "weights": "none", "image_size": 32, "batch_size": 4}


@pytest.fixture
def network():
    return model.build(Config(**SMALL), 3, "single_label")


def _times(monkeypatch, *seconds):
    """Steps that take as long as given, float32's first; fails where nothing should be measured."""
    asked, clock = iter(seconds), [0.0]

    def step(network, phase, batch):
        took = next(asked)
        return lambda: clock.append(clock[-1] + took)

    monkeypatch.setattr(precision, "_step", step)
    monkeypatch.setattr(precision, "_rival", lambda: "mixed_bfloat16")
    monkeypatch.setattr(precision.time, "monotonic", lambda: clock[-1])


@pytest.mark.parametrize(
    ("float32", "half", "policy"), [(1.0, 0.5, "mixed_bfloat16"), (1.0, 0.95, "float32"), (1.0, 2.0, "float32")]
)
def test_the_other_precision_has_to_be_worth_it(network, monkeypatch, float32, half, policy):
    _times(monkeypatch, float32, half)
    choice = precision.choose(Config(**SMALL), network, phases.all())
    assert choice.policy == policy
    assert choice.seconds == pytest.approx({"float32": float32, "mixed_bfloat16": half})
    assert f"{float32 / half:.2f} times as fast" in choice.reason


@pytest.mark.parametrize(
    ("settings", "phase", "policy"),
    [
        ({"precision": "mixed_float16"}, phases.all(), "mixed_float16"),
        ({"deterministic": True}, phases.all(), "float32"),
        ({"precision": "mixed_bfloat16", "deterministic": True}, phases.all(), "mixed_bfloat16"),
        ({}, None, "float32"),
    ],
)
def test_nothing_is_measured_without_need(network, monkeypatch, settings, phase, policy):
    _times(monkeypatch)
    assert precision.choose(Config(**SMALL, **settings), network, phase).policy == policy


@pytest.mark.parametrize("phase", [phases.head(epochs=1), phases.all(batch_norm="train")])
def test_measuring_leaves_the_network_as_it_was(network, phase, monkeypatch):
    monkeypatch.setattr(precision, "_rival", lambda: "mixed_bfloat16")
    before = network.model.get_weights()
    choice = precision.choose(Config(**SMALL), network, phase)
    assert set(choice.seconds) == {"float32", "mixed_bfloat16"}
    assert all(seconds > 0 for seconds in choice.seconds.values())
    for ours, theirs in zip(network.model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert not any("kerasft_held" in vars(layer) for layer in network.model.layers)


def test_jit_is_for_gpus():
    assert (precision.jit("on"), precision.jit("off")) == (True, False)
    assert precision.jit("auto") == bool(precision.tf.config.list_physical_devices("GPU"))
