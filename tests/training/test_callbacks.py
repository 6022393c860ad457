"""What is said of feeding, and that it is measured in a real phase."""

import pytest
from conftest import splits_of
from training_runs import trained

from kerasft.training import callbacks, fitting


@pytest.mark.parametrize(
    ("images", "fed", "on_accelerator", "expected"),
    [
        (620, 900, False, "input-bound: 620 images/s trained, 1,993 possible if feeding cost nothing; try"),
        (100, 1000, False, "compute-bound: 100 images/s trained, 1,000 could be fed"),
        (900, 1000, True, "input-bound: 900 images/s trained, no more than 1,000 can be fed; try"),
        (600, 1000, True, "compute-bound: 600 images/s trained, 1,000 could be fed"),
        (1000, 900, False, "input-bound: 1,000 images/s trained, 100,000 possible"),
    ],
)
def test_the_bottleneck_is_what_training_waits_for(images, fed, on_accelerator, expected):
    assert callbacks.bottleneck(images, fed, on_accelerator=on_accelerator).startswith(expected)


def test_a_phase_measures_its_feeding_once(photos, tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fitting, "MIN_STEPS_TO_TIME_INPUT", 20)
    monkeypatch.setattr(callbacks, "TIMED_CALLS", 5)
    monkeypatch.setattr(fitting, "MAX_STEPS_PER_CALL", 2)
    data = splits_of(f"folder:{photos}")
    trained(data, tmp_path, tiny, batch_size=4, augment="flip", phases="all(epochs=3)", head_init="auto")
    assert capsys.readouterr().out.count("-bound: ") == 1
