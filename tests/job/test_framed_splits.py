"""A run on wide images whose subject stands at the edge: `--framing=auto` measures, chooses and keeps its choice."""

import inspect
import json
import os
import subprocess
import sys
import weakref
from functools import lru_cache

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT
from PIL import Image

from kerasft.data import audit, sources
from kerasft.data.decode import decode_batch
from kerasft.job import audited_splits as audit_of_run
from kerasft.job import backbone, build_network, framed_splits
from kerasft.probes.framing_choice import FramingChoice
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.storage import resolved_settings

COLOURS = {"red": (230, 40, 40), "blue": (40, 40, 230)}
QUICK = ("--notensorboard", "--nowarmup")
CHOICE = FramingChoice("pad", "told so", [])
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
    network, resolved = build_network.resolve_settings(config, listing, folder)
    return framed_splits.audit_and_frame(config, listing, network, resolved, folder), resolved


@pytest.fixture(scope="module")
def run(wide, tiny, tmp_path_factory):
    """Runs the command on the wide images under a framing; gives what `metrics.json` holds, and the screen."""
    place = tmp_path_factory.mktemp("runs")

    def run(framing):
        given = FLAGS | {"data": f"folder:{wide}", "backbone": tiny, "framing": framing, "run_dir": framing}
        line = [sys.executable, "-m", "kerasft.run", *(f"--{name}={value}" for name, value in given.items())]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run([*line, *QUICK], cwd=place, env=environment, capture_output=True, text=True, timeout=600)
        assert (done.returncode, done.stderr) == (0, "")
        return place, json.loads((place / framing / "metrics.json").read_text()), done.stdout

    return lru_cache(run)


@pytest.mark.large
def test_auto_finds_the_subject_that_crop_cannot_see(run):
    place, metrics, screen = run("auto")
    chosen, settled = metrics["framing"], json.loads((place / "auto" / "settled.json").read_text())
    assert settled["framing"] == chosen != "crop"
    assert metrics["test"]["accuracy"] == 1.0
    rows = {row["choice"]: row for row in settled["framing_table"]}
    assert set(rows) == {"crop", "pad", "squash"}
    assert rows["crop"]["accuracy"] < 0.8
    assert "the loss of crop is" in settled["framing_reason"]
    (line,) = [line for line in screen.splitlines() if line.startswith("framing: ")]
    assert settled["framing_reason"] in line
    export = place / metrics["export"]["path"] / "assets.extra" / "kerasft.json"
    assert json.loads(export.read_text())["framing"] == chosen
    assert metrics["export"]["top1_agreement"] == 1
    page = (place / "auto" / "report.html").read_text()
    for name in rows:
        assert f'<th scope="row"><code>{name}</code></th>' in page


@pytest.mark.large
def test_a_cropped_run_does_not_see_it(run):
    _, metrics, screen = run("crop")
    assert "framing: " not in screen
    assert metrics["framing"] == "crop"
    # The accuracy on a dozen images may be right by chance.
    assert metrics["test"]["loss"] > max(0.5, 2 * run("auto")[1]["test"]["loss"])


def test_a_run_that_goes_on_keeps_its_framing_and_its_splits(wide, tiny, tmp_path, monkeypatch):
    first, resolved = _framed(wide, tiny, tmp_path)
    assert resolved_settings.read(tmp_path).framing == resolved.framing != "crop"
    monkeypatch.setattr(framed_splits.framing_choice, "choose", lambda *_: pytest.fail("chosen again"))
    second, again = _framed(wide, tiny, tmp_path)
    assert again == resolved
    assert first.digest == second.digest
    for splits in (first, second):
        split = splits.test
        assert split.framing == resolved.framing
        expected = decode_batch(tf.constant([split.read(row) for row in range(len(split))]), 32, split.framing)
        np.testing.assert_array_equal(split.images(np.arange(len(split))), expected)


def test_a_framing_that_another_run_has_chosen_is_taken_and_the_audit_still_crops(wide, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(framed_splits.framing_choice, "choose", lambda *_: pytest.fail("chosen again"))
    config = Config(**FLAGS | {"data": f"folder:{wide}", "backbone": tiny})
    listing, audited = sources.load(config), []
    audit_and_split = framed_splits.audit_and_split

    def noted(config, listing, size, folder):
        audited.append(listing.framing)
        return audit_and_split(config, listing, size, folder)

    monkeypatch.setattr(framed_splits, "audit_and_split", noted)
    network, resolved = build_network.resolve_settings(config, listing, tmp_path, framing="squash")
    splits = framed_splits.audit_and_frame(config, listing, network, resolved, tmp_path)
    assert (audited, splits.train.framing) == (["crop"], "squash")
    assert resolved_settings.read(tmp_path).framing == "squash"


def test_a_run_whose_images_were_audited_at_another_size_keeps_its_splits(wide, tiny, tmp_path, monkeypatch):
    """So it is where `--backbone` leaves a choice: the audit comes before it, at the size of most of the networks."""
    sizes = []

    def noted(config, listing, size, folder):
        sizes.append(size)
        return audit_of_run.audit_and_split(config, listing, size, folder)

    monkeypatch.setattr(framed_splits, "audit_and_split", noted)
    config = Config(**FLAGS | {"data": f"folder:{wide}", "backbone": tiny, "framing": "crop"})
    listing = audit_of_run.as_audited(config, sources.load(config))
    folder = tmp_path / "run"
    folder.mkdir()
    first = backbone.Audited(audit_of_run.audit_and_split(config, listing, 48, folder), 48, 0.0)
    network, resolved = build_network.resolve_settings(config, listing, folder)
    data = framed_splits.audit_and_frame(config, listing, network, resolved, folder, first)
    assert not sizes and data.train.images(np.arange(1)).shape[1] == network.size == 32
    stored = resolved_settings.read(folder)
    assert stored.audit_size == 48
    again = framed_splits.audit_and_frame(config, listing, network, stored, folder)
    assert (sizes, again.digest) == ([48], data.digest)
    np.testing.assert_array_equal(again.train.images(np.arange(3)), data.train.images(np.arange(3)))


@pytest.mark.parametrize("framing", ["auto", "pad"])
def test_the_images_of_the_audit_are_freed_before_others_take_their_place(wide, tiny, tmp_path, monkeypatch, framing):
    stores, make = [], audit.make_memory_store

    def noted(count, size):
        assert not [store for store in stores if store() is not None], "the images of before are still held"
        store = make(count, size)
        stores.append(weakref.ref(inspect.getclosurevars(store.take).nonlocals["stored"]))
        return store

    monkeypatch.setattr(audit, "make_memory_store", noted)
    monkeypatch.setattr(framed_splits.framing_choice, "choose", lambda *_: CHOICE)
    config = Config(**FLAGS | {"data": f"folder:{wide}", "backbone": tiny, "framing": framing})
    listing = audit_of_run.as_audited(config, sources.load(config))
    first = backbone.Audited(audit_of_run.audit_and_split(config, listing, 48, tmp_path), 48, 0.0)
    network, resolved = build_network.resolve_settings(config, listing, tmp_path)
    data = framed_splits.audit_and_frame(config, listing, network, resolved, tmp_path, first)
    assert (data.train.framing, len(stores)) == ("pad", 3 if framing == "auto" else 2)


def test_images_that_fit_nowhere_are_decoded_by_the_framing(wide, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(audit, "MAX_MEMORY_SHARE", 0)
    monkeypatch.setattr(framed_splits.framing_choice, "choose", lambda *_: CHOICE)
    splits, resolved = _framed(wide, tiny, tmp_path, cache_gb=0.0)
    assert splits.train.images is None
    assert splits.train.framing == resolved.framing == "pad"


def test_an_image_that_changes_after_the_audit_is_refused(wide, tiny, tmp_path, monkeypatch):
    path = wide / "red" / "00.png"
    before = path.read_bytes()

    def spoiled(*_):
        path.write_bytes((wide / "blue" / "00.png").read_bytes())
        return CHOICE

    monkeypatch.setattr(framed_splits.framing_choice, "choose", spoiled)
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
