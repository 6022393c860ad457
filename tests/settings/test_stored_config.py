"""A Config on disk: what is read from a stored one, and what differs from it."""

import json
from dataclasses import asdict, replace

from kerasft.settings import stored_config
from kerasft.settings.config import Config


def test_settings_of_other_versions_are_left_out():
    stored = {"seed": 3, "setting_of_a_later_version": 1}
    assert stored_config.from_stored(stored, unlabelled="x") == Config(seed=3, unlabelled="x")


def test_differences_name_the_fields():
    stored = json.loads(json.dumps(asdict(Config())))
    found = stored_config.differences(replace(Config(), seed=3, run_dir="elsewhere"), stored)
    assert found == ["seed: 0 then, 3 now"]


def test_a_setting_that_an_earlier_version_did_not_have_counts_as_its_default():
    stored = json.loads(json.dumps(asdict(Config())))
    del stored["unlabelled"]
    assert stored_config.differences(Config(), stored) == []
    assert stored_config.differences(Config(unlabelled="folder:more"), stored) == [
        "unlabelled: '' then, 'folder:more' now"
    ]


def test_a_flag_is_one_line():
    text = stored_config.to_flags(
        Config(phases="head | all(\nepochs=3)"), {"strategies": "head;\n--phases=all", "budget_minutes": 2.0}
    )
    lines = text.splitlines()
    assert {"--phases=head | all( epochs=3)", "--strategies=head; --phases=all", "--budget_minutes=2.0"} <= {*lines}
    assert all(line.startswith("--") for line in lines)
