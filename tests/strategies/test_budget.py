"""The rule of `--budget_minutes`: the epochs that fit, and the time that is left for what comes after training."""

import pytest

from kerasft import strategies
from kerasft.settings import spec as specs
from kerasft.settings.errors import UserError
from kerasft.settings.spec import Spec
from kerasft.strategies import budget
from kerasft.strategies.budget import Speed

SPEED = Speed(tracing=2.0, step=0.1, image=0.01)


def _epochs(left, *, planned=20, steps=30, needed=False, optimizer="sgd"):
    phase = strategies.full(epochs=planned, optimizer=specs.parse_one(optimizer, "--optimizer"))
    return budget.fitting_epochs(phase, steps, 50, lambda epochs: SPEED, left, needed=needed)


@pytest.mark.parametrize(("left", "epochs"), [(1000.0, 20), (60.0, 14), (22.0, 3), (18.5, 2), (17.0, 0), (-5.0, 0)])
def test_a_phase_has_the_epochs_that_fit_or_is_not_begun(left, epochs):
    """An epoch takes 3.5 s, what is around the epochs 11 s; two epochs are the fewest that have 50 steps."""
    assert _epochs(left) == epochs


def test_what_fits_takes_at_most_the_time_that_is_left():
    phase = strategies.full(epochs=1000, optimizer=Spec("sgd"))
    for left in range(22, 400, 7):
        found = budget.fitting_epochs(phase, 30, 50, lambda epochs: SPEED, left, needed=False)
        assert budget.seconds_of_phase(phase, found, 30, 50, SPEED) <= left + 1e-6
        assert budget.seconds_of_phase(phase, found + 1, 30, 50, SPEED) > left


@pytest.mark.parametrize(("left", "epochs"), [(-5.0, 1), (12.0, 1), (22.0, 3)])
def test_without_the_first_phase_there_is_no_network(left, epochs):
    assert _epochs(left, needed=True) == epochs


@pytest.mark.parametrize(("left", "needed", "epochs"), [(22.0, False, 0), (22.0, True, 4), (60.0, False, 14)])
def test_a_phase_has_enough_steps_for_one_update(left, needed, epochs):
    """Three epochs would fit. Four are the fewest of 100 steps."""
    assert _epochs(left, needed=needed, optimizer="adam(gradient_accumulation_steps=100)") == epochs


def test_a_shorter_phase_has_its_own_speed():
    """With the features of 20 epochs ahead of them not even 2 would fit."""
    phase = strategies.full(epochs=20, optimizer=Spec("sgd"))
    found = budget.fitting_epochs(phase, 30, 50, lambda epochs: SPEED._replace(ahead=2.0 * epochs), 50.0, needed=False)
    assert found == 7
    assert budget.fitting_epochs(phase, 30, 50, lambda _: SPEED._replace(ahead=40.0), 50.0, needed=False) == 0


def test_a_short_phase_need_not_have_fifty_steps():
    assert _epochs(14.6, planned=1) == 1


def test_what_comes_after_training_grows_with_the_test_set_and_the_network():
    plain = budget.seconds_after(100, SPEED, 0.002)
    assert budget.seconds_after(200, SPEED, 0.002) - plain == pytest.approx(100 * (3 * 0.01 + 0.002))
    assert budget.seconds_after(100, SPEED._replace(tracing=4.0), 0.002) > plain + 2


def test_equal_weights_on_every_machine_exclude_a_budget():
    budget.check(None, True)
    budget.check(1.5, False)
    with pytest.raises(UserError, match=r"--budget_minutes: .* with --deterministic. Received: 1.5"):
        budget.check(1.5, True)
