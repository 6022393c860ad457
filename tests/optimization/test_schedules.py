"""Schedules against their formulas."""

import keras
import numpy as np
import pytest

from kerasft.optimization import schedules
from kerasft.settings import spec as specs


def _rates(schedule, steps):
    return [float(keras.ops.convert_to_tensor(schedule(step))) for step in steps]


def test_cosine_warms_up_and_falls_to_its_floor():
    rate = schedules.cosine(0.1, 100, warmup=0.2)
    np.testing.assert_allclose(_rates(rate, (0, 10, 20, 60, 100)), [0, 0.05, 0.1, 0.05, 0], atol=1e-6)
    rate = schedules.cosine(0.1, 100, warmup=0, floor=0.1)
    np.testing.assert_allclose(_rates(rate, (0, 50, 100)), [0.1, 0.055, 0.01], atol=1e-6)
    warm = schedules.cosine(0.1, 100, warmup=0.2, floor=0.1)
    np.testing.assert_allclose(_rates(warm, (20, 60, 100)), [0.1, 0.055, 0.01], atol=1e-6)


def test_linear_warms_up_and_falls_in_a_line():
    rate = schedules.linear(0.1, 100, warmup=0.2)
    np.testing.assert_allclose(_rates(rate, (0, 10, 20, 60, 100, 120)), [0, 0.05, 0.1, 0.05, 0, 0], atol=1e-6)
    np.testing.assert_allclose(_rates(schedules.linear(0.1, 100, warmup=0), (0, 50)), [0.1, 0.05], atol=1e-6)


def test_polynomial_warms_up_and_falls_by_its_power():
    rate = schedules.polynomial(0.1, 100, warmup=0.2)
    np.testing.assert_allclose(_rates(rate, (0, 10, 20, 60, 100)), [0, 0.05, 0.1, 0.025, 0], atol=1e-6)
    rate = schedules.polynomial(0.1, 100, power=1, end=0.1, warmup=0)
    np.testing.assert_allclose(_rates(rate, (0, 50, 100)), [0.1, 0.055, 0.01], atol=1e-6)
    keras_own = keras.optimizers.schedules.PolynomialDecay(0.1, 100, end_learning_rate=0.02, power=3.0)
    rate = schedules.polynomial(0.1, 100, power=3, end=0.2, warmup=0)
    np.testing.assert_allclose(_rates(rate, range(0, 101, 7)), _rates(keras_own, range(0, 101, 7)), atol=1e-6)


def test_wsd_warms_up_stays_and_falls():
    found = _rates(schedules.wsd(0.1, 100), (0, 5, 10, 50, 80, 90, 99))
    np.testing.assert_allclose(found, [0, 0.05, 0.1, 0.1, 0.1, 0.05, 0.005], atol=1e-6)
    found = _rates(schedules.wsd(0.1, 100, warmup=0, decay=1), (0, 50, 99))
    np.testing.assert_allclose(found, [0.1, 0.05, 0.001], atol=1e-6)


def test_one_cycle_is_that_of_fastai_and_pytorch():
    rate = schedules.one_cycle(0.1, 100)
    np.testing.assert_allclose(_rates(rate, (0, 15, 30, 65, 100)), [0.004, 0.052, 0.1, 0.05, 4e-7], atol=1e-6)


def test_step_falls_at_its_shares():
    rate = schedules.step(0.1, 100)
    found = _rates(rate, (0, 49, 50, 74, 75, 99))
    np.testing.assert_allclose(found, [0.1, 0.1, 0.01, 0.01, 0.001, 0.001], rtol=1e-5)
    np.testing.assert_allclose(_rates(schedules.step(0.1, 10, at=0.5, factor=0.5), (4, 5)), [0.1, 0.05], rtol=1e-5)


def test_plateau_falls_where_validation_stands_still():
    plateau = schedules.plateau(0.1, 100, factor=0.1, patience=2)
    losses = [3.0, 2.0, 2.5, 2.0, 2.1, float("nan"), 1.0, 1.5]
    found = [plateau.rate(0.1, losses[:epochs]) for epochs in range(len(losses) + 1)]
    np.testing.assert_allclose(found, [0.1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001, 0.001])


@pytest.mark.parametrize(
    ("schedule", "share"),
    [
        ("cosine", 0),
        ("polynomial(end=0.5)", 0.5),
        ("wsd", 1 / 60),
        ("linear", 0),
        ("one_cycle", 0),
        ("step", 0.01),
        ("cosine(floor=0.5)", 0.5),
        ("plateau", 1),
    ],
)
def test_the_last_rate_of_a_schedule(schedule, share):
    assert schedules.last_rate(specs.parse_one(schedule, "--schedule"), 0.1, 300) == pytest.approx(
        0.1 * share, abs=1e-3
    )


@pytest.mark.parametrize(("warmup", "decay"), [(0.8, 0.2), (0.9, 0.1), (0.7, 0.3)])
def test_a_decay_may_take_all_that_the_warm_up_leaves(warmup, decay):
    rate = schedules.build(specs.Spec("wsd", (), {"warmup": warmup, "decay": decay}), 1.0, 100)
    assert float(rate(round(100 * warmup))) == pytest.approx(1.0)
    assert float(rate(100)) == 0
