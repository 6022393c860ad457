"""A finished run that is read again: its splits are those that it was trained on, or it is refused."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from PIL import Image

from kerasft.data import sources
from kerasft.export.keras_model import KERAS_FILE
from kerasft.job import build_network, finished_run, framed_splits
from kerasft.probes.framing_choice import FramingChoice
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError


@pytest.fixture
def run(tiny, tmp_path, monkeypatch):
    """A run folder of `--framing=auto` that chose pad, and its splits.

    Pairs of its images differ at the edges alone. So the audit finds as many copies by `crop`, and none by `pad`.
    """
    root, rng = tmp_path / "wide", np.random.default_rng(0)
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for index in range(12):
            middle = rng.integers(0, 255, (32, 32, 3), np.uint8)
            for side in range(2):
                edges = rng.integers(0, 255, (2, 32, 32, 3), np.uint8)
                image = np.concatenate([edges[0], middle, edges[1]], 1)
                Image.fromarray(image).save(root / name / f"{index:02d}-{side}.png")
    config = Config(data=f"folder:{root}", backbone=tiny, precision="float32", phases="head(epochs=0)")
    listing, folder = sources.load(config), tmp_path / "run"
    monkeypatch.setattr(framed_splits.framing_choice, "choose", lambda *_: FramingChoice("pad", "told so", []))
    network, resolved = build_network.resolve_settings(config, listing, folder)
    splits = framed_splits.audit_and_frame(config, listing, network, resolved, folder)
    network.model.save(folder / KERAS_FILE)
    metrics = {"task": "single_label", "classes": ["a", "b"], "backbone": "tiny", "image_size": 32, "export": {}}
    metrics |= {"framing": splits.train.framing, "data_digest": splits.digest}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "config.json").write_text(json.dumps(asdict(config)))
    outputs = np.full((len(splits.test), 2), 0.5)
    np.savez(folder / "predictions.npz", ids=splits.test.ids, probabilities=outputs)
    return folder, splits


def test_it_has_the_splits_of_its_audit_and_the_images_of_its_framing_or_is_refused(run):
    folder, splits = run
    # Each pair is on one side, which under an audit by `pad` would be chance.
    for split in (splits.train, splits.val, splits.test):
        names = split.ids.tolist()
        assert len({name.rpartition("-")[0] for name in names}) == len(names) / 2
    opened = finished_run.reopen(str(folder))
    for name in ("train", "val", "test"):
        ours, theirs = getattr(opened.splits, name), getattr(splits, name)
        assert ours.ids.tolist() == theirs.ids.tolist() and ours.framing == "pad"
        rows = np.arange(len(theirs))
        np.testing.assert_array_equal(ours.images(rows), theirs.images(rows))
    assert opened.listing.framing == "pad"
    assert not (folder / finished_run.SCRATCH).exists()
    _change(folder / "metrics.json", data_digest="0" * 16)
    with pytest.raises(UserError, match=r"--data: its images fall into other splits than in the run .*Received: "):
        finished_run.reopen(str(folder))
    # The digest is of images without labels too, which are not read again.
    _change(folder / "config.json", unlabelled="folder:gone")
    finished_run.refuse_other_splits(opened.config, splits.digest, folder)


def test_a_setting_of_another_version_is_left_out(run):
    folder, _ = run
    _change(folder / "config.json", setting_of_a_later_version=3)
    assert finished_run.reopen(str(folder), max_drop=0.5).config.max_drop == 0.5


def _change(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
