"""`--unlabelled` in a job: what is audited, recorded and checked when a run goes on, and a whole run."""

import json
import shutil
from dataclasses import replace

import keras
import numpy as np
import pytest
from conftest import make_image

from kerasft.data import sources
from kerasft.job import dry_run, finished_run, framed_splits, train
from kerasft.job.audited_splits import audit_and_split, refuse_changes
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.storage import checkpoints


@pytest.fixture
def more(photos, tmp_path):
    """Seven images, a copy of a labelled one, and a file that is no image."""
    root, rng = tmp_path / "more", np.random.default_rng(11)
    (root / "deep").mkdir(parents=True)
    for index in range(7):
        make_image(("disc", "square")[index % 2], rng).save(root / "deep" / f"{index}.jpg", quality=90)
    shutil.copy(photos / "disc" / "03.jpg", root)
    (root / "words.jpg").write_text("words")
    return root


def _config(photos, more, **settings):
    given = {"data": f"folder:{photos}", "unlabelled": f"folder:{more}", "image_size": 32, "framing": "crop"}
    return Config(**{**given, **settings})


def test_they_are_audited_recorded_and_checked(photos, more, tmp_path, capsys):
    config, folder = _config(photos, more), tmp_path / "run"
    listing = sources.load(config)
    data = audit_and_split(config, listing, 32, folder)
    said = capsys.readouterr().out
    assert "unlabelled: 7 images" in said and "left out: unlabelled:03.jpg: copy" in said
    found = {row["path"]: row["kind"] for row in json.loads((folder / "audit.json").read_text())["findings"]}
    assert found == {"unlabelled:words.jpg": "not_an_image", "unlabelled:03.jpg": "copy"}
    # A larger image, and another framing, are of the same files.
    bare = framed_splits._without_images(data, "squash")
    again = framed_splits._decode_again(bare, config, replace(listing, framing="squash"), 40, folder)
    assert again.unlabelled.images(np.arange(7)).shape == (7, 40, 40, 3) and again.unlabelled.framing == "squash"
    assert not np.array_equal(again.train.images(np.arange(2)), again.unlabelled.images(np.arange(2)))
    (folder / checkpoints.FILE_NAMES[0]).touch()
    assert audit_and_split(config, listing, 32, folder).digest == data.digest
    (more / "deep" / "0.jpg").write_bytes((more / "deep" / "1.jpg").read_bytes())
    (more / "deep" / "2.jpg").unlink()
    for ask in (refuse_changes, lambda *given: audit_and_split(*given[:2], 32, given[2])):
        with pytest.raises(UserError, match=r"--unlabelled: has changed since .*1 altered .*1 removed"):
            ask(config, sources.load(config), folder)


def test_bad_files_end_a_run_that_wants_it_and_one_without_images(photos, more, tmp_path):
    config = _config(photos, more, bad_images="fail")
    with pytest.raises(UserError, match="--bad_images: 1 files"):
        audit_and_split(config, sources.load(config), 32, tmp_path / "run")
    shutil.rmtree(more / "deep")
    (more / "03.jpg").unlink()
    config = _config(photos, more)
    with pytest.raises(UserError, match="--unlabelled: none of 1 file can be used"):
        audit_and_split(config, sources.load(config), 32, tmp_path / "run")


@pytest.mark.large
def test_a_run_learns_from_them_and_says_how_many(photos, more, tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "teacher").mkdir()
    inputs = keras.Input((32, 32, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(8, 3, activation="relu")(inputs))
    keras.Model(inputs, keras.layers.Dense(2)(pooled)).save(tmp_path / "teacher" / "model.keras")
    about = {"task": "single_label", "classes": ["disc", "square"], "image_size": 32, "framing": "crop"}
    (tmp_path / "teacher" / "metrics.json").write_text(json.dumps(about))
    settings = {"backbone": tiny, "phases": "all(epochs=2, lr=1e-3)", "augment": "crop", "teacher": "teacher"}
    config = _config(photos, more, tensorboard=False, **settings)
    dry_run.show(config)
    assert "unlabelled: 7 images" in capsys.readouterr().out
    run = train.train(config)
    assert run.metrics["settled"]["teacher"]["unlabelled"] == 7
    assert "7 further images without labels" in (run.folder / "report.html").read_text()
    count = sum(sum(part.values()) for part in json.loads((run.folder / "audit.json").read_text())["counts"].values())
    assert count == 48
    assert train.train(config).metrics == run.metrics
    shutil.rmtree(more / "deep")
    with pytest.raises(UserError, match="--unlabelled: has changed"):
        train.train(config)
    # What reads a finished run needs no images without labels.
    assert finished_run.reopen(str(run.folder)).splits.unlabelled is None
