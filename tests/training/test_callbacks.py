"""What is said of feeding, and that it is measured in a real phase."""

import pytest
from conftest import splits_of

from kerasft.networks import network as networks
from kerasft.settings.config import Config
from kerasft.training import callbacks, fitting
from kerasft.training.trainer import Trainer


@pytest.mark.parametrize(
    ("trained", "fed", "beside", "expected"),
    [
        (620, 900, False, "input-bound: 620 pictures/s trained, 1,993 possible if feeding cost nothing; try"),
        (100, 1000, False, "compute-bound: 100 pictures/s trained, 1,000 could be fed"),
        (900, 1000, True, "input-bound: 900 pictures/s trained, no more than 1,000 can be fed; try"),
        (600, 1000, True, "compute-bound: 600 pictures/s trained, 1,000 could be fed"),
        (1000, 900, False, "input-bound: 1,000 pictures/s trained, 100,000 possible"),
    ],
)
def test_the_verdict_names_what_training_waits_for(trained, fed, on_accelerator, expected):
    assert callbacks.verdict(trained, fed, on_accelerator=on_accelerator).startswith(expected)


def test_a_phase_measures_its_feeding_once(photos, tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fitting, "MIN_STEPS_TO_TIME_INPUT", 20)
    monkeypatch.setattr(callbacks, "TIMED_CALLS", 5)
    data = splits_of(f"folder:{photos}")
    config = Config(backbone=tiny, batch_size=4, tensorboard=False, augment="flip", phases="all(epochs=3)")
    Trainer(config, networks.build(config, 2, "single_label"), data, tmp_path).train()
    assert capsys.readouterr().out.count("-bound: ") == 1
