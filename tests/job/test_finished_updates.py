"""What a finished run is asked for later: when it is compared again, and that a refused model is published once."""

import json
from pathlib import Path

import pytest

from kerasft.export import model_folders
from kerasft.job import finished_updates
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError


def _version(folder: Path, run: str) -> Path:
    """A version folder that says which run it is of, with an empty model."""
    (folder / model_folders.METADATA_FILE).parent.mkdir(parents=True, exist_ok=True)
    (folder / model_folders.METADATA_FILE).write_text(json.dumps({"run": run}))
    (folder / model_folders.SAVED_MODEL_FILE).touch()
    return folder


def test_a_baseline_is_compared_again_once_it_is_another_model(tmp_path):
    prod, one = tmp_path / "prod", _version(tmp_path / "served" / "1", "first")
    prod.mkdir()
    (prod / "metrics.json").write_text(json.dumps({"export": {"path": str(one)}}))
    config = Config(baseline=str(prod))
    before = {"given": str(prod), "path": one.as_posix(), "run": "first"}
    assert not finished_updates.compares(Config(), {})
    assert finished_updates.compares(config, {})
    assert not finished_updates.compares(config, {"baseline": before})
    earlier = {name: value for name, value in before.items() if name != "run"}
    assert not finished_updates.compares(config, {"baseline": earlier})
    # Another run in the same version folder, and another version of the same run folder.
    _version(one, "second")
    assert finished_updates.compares(config, {"baseline": before})
    two = _version(tmp_path / "served" / "2", "first")
    (prod / "metrics.json").write_text(json.dumps({"export": {"path": str(two)}}))
    assert finished_updates.compares(config, {"baseline": before})
    (two / model_folders.SAVED_MODEL_FILE).unlink()
    with pytest.raises(UserError, match="--baseline: the SavedModel of this run is not there"):
        finished_updates.compares(config, {"baseline": before})
