"""What is resolved before the first phase: which phases are trained, and which are not."""

from dataclasses import replace

import pytest
from training_runs import vectors

from kerasft.data.splits import Split
from kerasft.settings.errors import UserError
from kerasft.storage.resolved_settings import ResolvedSettings
from kerasft.training import resolve


def _planned(folder, validation_images=400, **settings):
    """The phases of a run on vectors, and what is resolved with them."""
    setup = vectors(folder, augment="none", head_init="zeros", **settings).setup
    val = setup.splits.val
    val = Split(val.ids[:validation_images], val.labels[:validation_images], val.read, val.images)
    setup = replace(setup, splits=replace(setup.splits, val=val))
    resolved = ResolvedSettings("none", 1, "float32", "", augment="none", batch_size=8, jit="off")
    return resolve.plan_phases(setup, resolved)[0], resolved


def test_a_phase_that_is_dropped_is_named_where_an_equal_one_is_kept(tmp_path):
    planned, resolved = _planned(tmp_path, 4, phases="all(epochs=2) | all(epochs=2)")
    assert len(planned) == len(resolved.dropped_phases) == 1


def test_a_phase_of_too_few_steps_for_one_update_is_refused_before_the_first_one_is_trained(tmp_path):
    phases = "all(epochs=9) | all(epochs=1, optimizer=sgd(gradient_accumulation_steps={}))"
    assert len(_planned(tmp_path, phases=phases.format(50))[0]) == 2
    with pytest.raises(UserError, match=r"must be at most 50, the steps of the phase\. Received: 51"):
        _planned(tmp_path, phases=phases.format(51))
