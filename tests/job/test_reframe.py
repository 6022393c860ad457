"""A run on wide images whose subject stands at the edge: `--framing=auto` measures, chooses and keeps its choice."""

import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kerasft.data import audit, sources
from kerasft.data.decode import decode_batch
from kerasft.job import reframe, resolve, train
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.storage import resolved_settings
from kerasft.training.framing_choice import Choice

COLOURS = {"red": (230, 40, 40), "blue": (40, 40, 230)}
CHOICE = Choice("pad", "told so", [])
FLAGS = {"phases": "head(epochs=0)", "augment": "none", "precision": "float32", "batch_size": 8, "jit": "off"}


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """Noise of 96x32 pixels with a red or a blue block at the left edge, 30 of each."""
    root, rng = tmp_path_factory.mktemp("wide") / "blocks", np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (root / name).mkdir(parents=True)
        for index in range(30):
            image = rng.uniform(60, 190, (32, 96, 3)).astype(np.uint8)
            image[8:24, :16] = colour
            Image.fromarray(image).save(root / name / f"{index:02d}.png")
    return root


def _framed(wide, tiny, folder, **settings):
    """The splits and what was resolved."""
    folder.mkdir(exist_ok=True)
    config = Config(**FLAGS | {"data": f"folder:{wide}", "backbone": tiny} | settings)
    listing = sources.load(config)
    network, resolved = resolve.resolve_settings(config, listing, folder)
    return reframe.framed_splits(config, listing, network, resolved, folder), resolved


def test_auto_finds_the_subject_that_crop_cannot_see(wide, tiny, command, tmp_path):
    given = FLAGS | {"data": f"folder:{wide}", "backbone": tiny}
    done = command(
        *[f"--{name}={value}" for name, value in given.items()], "--notensorboard", "--run_dir=auto", cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "framing: " in done.stdout
    found = json.loads((tmp_path / "auto" / "metrics.json").read_text())
    places = {name: str(tmp_path / name) for name in ("run_dir", "export_dir")}
    cropped = train.train(Config(**given, framing="crop", tensorboard=False, **places)).metrics
    chosen = found["framing"]
    assert cropped["framing"] == "crop" != chosen
    assert cropped["test"]["accuracy"] < 0.8
    assert found["test"]["accuracy"] == 1.0
    settled = json.loads((tmp_path / "auto" / "settled.json").read_text())
    assert settled["framing"] == chosen
    assert "the loss of crop is" in settled["framing_reason"]
    assert {row["choice"] for row in settled["framing_table"]} == {"crop", "pad", "squash"}
    export = tmp_path / found["export"]["path"] / "assets.extra" / "kerasft.json"
    assert json.loads(export.read_text())["framing"] == chosen
    assert found["export"]["top1_agreement"] == 1
    page = (tmp_path / "auto" / "report.html").read_text()
    for row in settled["framing_table"]:
        assert f'<th scope="row"><code>{row["choice"]}</code></th>' in page
    assert "framing_table" not in page


def test_a_run_that_goes_on_keeps_its_framing_and_its_splits(wide, tiny, tmp_path, monkeypatch):
    first, resolved = _framed(wide, tiny, tmp_path)
    assert resolved_settings.read(tmp_path).framing == resolved.framing != "crop"
    monkeypatch.setattr(reframe.framing_choice, "choose", lambda *_: pytest.fail("chosen again"))
    second, again = _framed(wide, tiny, tmp_path)
    assert again == resolved
    assert first.digest == second.digest
    for splits in (first, second):
        split = splits.test
        assert split.framing == resolved.framing
        expected = decode_batch(tf.constant([split.read(row) for row in range(len(split))]), 32, split.framing)
        np.testing.assert_array_equal(split.images(np.arange(len(split))), expected)


def test_images_that_fit_nowhere_are_decoded_by_the_framing(wide, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(audit, "MAX_MEMORY_SHARE", 0)
    monkeypatch.setattr(reframe.framing_choice, "choose", lambda *_: CHOICE)
    splits, resolved = _framed(wide, tiny, tmp_path, cache_gb=0.0)
    assert splits.train.images is None
    assert splits.train.framing == resolved.framing == "pad"


def test_an_image_that_changes_after_the_audit_is_refused(wide, tiny, tmp_path, monkeypatch):
    path = wide / "red" / "00.png"
    before = path.read_bytes()

    def spoiled(*_):
        path.write_bytes((wide / "blue" / "00.png").read_bytes())
        return CHOICE

    monkeypatch.setattr(reframe.framing_choice, "choose", spoiled)
    try:
        with pytest.raises(UserError, match="changed since the audit"):
            _framed(wide, tiny, tmp_path)
    finally:
        path.write_bytes(before)


def test_an_explicit_framing_is_audited_as_such(wide, tiny, tmp_path, capsys):
    splits, resolved = _framed(wide, tiny, tmp_path, framing="pad")
    assert (splits.val.framing, resolved.framing, resolved.framing_table) == ("pad", "pad", [])
    assert "framing:" not in capsys.readouterr().out
    expected = decode_batch(tf.constant([splits.val.read(0)]), 32, "pad")
    np.testing.assert_array_equal(splits.val.images(np.array([0])), expected)
