"""The phase that `lr_find` tests: what is said where a run would train none."""

from dataclasses import replace

import pytest
from conftest import splits_of
from training_runs import SMALL

from kerasft.data.splits import Split
from kerasft.networks import network as networks
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.storage.resolved_settings import ResolvedSettings
from kerasft.training import first_phase


@pytest.mark.parametrize(
    ("images", "phases", "message"),
    [
        (3, "head | all(epochs=1)", r"--data: at least 5 validation images .*Received: 3 validation images"),
        (9, "head", "--phases: a phase with epochs is needed"),
    ],
)
def test_what_is_missing_is_named(photos, tiny, tmp_path, images, phases, message):
    data = splits_of(f"folder:{photos}", val=0.2, test=0.2)
    val = Split(data.val.ids[:images], data.val.labels[:images], data.val.read, data.val.images)
    data = replace(data, val=val)
    config = Config(**SMALL | {"backbone": tiny, "head_init": "probe", "phases": phases, "augment": "none"})
    network = networks.build(config, len(data.classes), data.task)
    resolved = ResolvedSettings("none", network.size, "float32", "")
    with pytest.raises(UserError, match=message):
        first_phase.first_phase(config, network, data, tmp_path, resolved)
