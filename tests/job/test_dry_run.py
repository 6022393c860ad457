"""`--dry_run`: what it says is what the run then does, and it leaves nothing behind."""

import json
import re
import shutil
from dataclasses import asdict, replace

import pytest
from conftest import splits_of

from kerasft import strategies
from kerasft.data import files
from kerasft.job import dry_run, train
from kerasft.networks import network as networks
from kerasft.networks.multiplications import forward_work
from kerasft.settings import spec as specs
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.storage.disk_cache import DiskCache
from kerasft.strategies import caching
from kerasft.training import domain_shift, phase_inputs


def _said(capsys, config: Config) -> str:
    capsys.readouterr()
    dry_run.show(config)
    return capsys.readouterr().out


@pytest.mark.large
def test_it_says_what_the_run_does_and_leaves_nothing(photos, tiny, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (photos / "disc" / "00.jpg").with_name("broken.jpg").write_bytes(b"\xff\xd8 no image")
    asked = Config(data=f"folder:{photos}", backbone=tiny, image_size=32, phases="all(epochs=1)", augment="none")
    try:
        said = _said(capsys, asked)
        assert list(tmp_path.iterdir()) == []
        run = train.train(asked)
    finally:
        (photos / "disc" / "broken.jpg").unlink()
    audit = json.loads((run.folder / "audit.json").read_text())
    for name in ("disc", "square"):
        counts = [str(audit["counts"][part][name]) for part in ("train", "val", "test")]
        assert next(line for line in said.splitlines() if line.startswith(name)).split()[1:] == counts
    assert "(reject)" in said and "disc/broken.jpg" in said
    assert f"run folder: {run.folder}" in said
    # The table leaves out what the record says behind the rate.
    assert all(phase["spec"].partition(", optimizer=")[0] in said for phase in run.metrics["phases"])
    assert re.search(r"expected time: about .+ This counts [\d,]+ forward passes", " ".join(said.split()))
    assert "which has a finished run" in _said(capsys, asked)


def test_it_refuses_what_the_run_refuses(photos, tiny):
    with pytest.raises(UserError, match="--phases"):
        dry_run.show(Config(data=f"folder:{photos}", backbone=tiny, image_size=32, phases="top(unfreeze='x')"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"budget_minutes": 1.0, "deterministic": True}, "--budget_minutes"),
        ({"export": "savedmodel | onnx(precision=int2)"}, "--export"),
        ({"coverage": 0.999}, "--coverage: needs at least"),
        ({}, "--run_dir: holds another run"),
    ],
)
def test_it_refuses_what_the_run_checks_before_it_trains(photos, tiny, tmp_path, given, message):
    (tmp_path / "config.json").write_text(json.dumps(asdict(Config(data="digits", run_dir=str(tmp_path)))))
    (tmp_path / "metrics.json").write_text("{}")
    asked = Config(data=f"folder:{photos}", backbone=tiny, image_size=32, phases="head", **given)
    with pytest.raises(UserError, match=message):
        dry_run.show(asked if given else replace(asked, run_dir=str(tmp_path)))


def test_it_refuses_a_quantile_that_too_few_validation_images_leave_unlearned(photos, tiny, tmp_path):
    images = sorted(photos.glob("*/*.jpg"))
    (tmp_path / "t.csv").write_text("\n".join(["path,size", *(f"{path},{i / 3}" for i, path in enumerate(images))]))
    asked = Config(data=f"csv:{tmp_path / 't.csv'}", backbone=tiny, image_size=32, loss="pinball(0.9)", augment="none")
    with pytest.raises(UserError, match="--loss: a quantile needs a phase with epochs, which needs 5 validation"):
        dry_run.show(replace(asked, val_fraction=2 / len(images)))


def test_it_says_the_rate_that_the_run_will_have(photos, tiny, capsys, monkeypatch):
    monkeypatch.setattr(domain_shift, "measure", lambda *given: 0.3)
    said = " ".join(_said(capsys, Config(data=f"folder:{photos}", backbone=tiny, image_size=32)).split())
    assert "at 3 times the rate, for the images are far from those of the pretraining (shift 0.30)" in said
    assert "more if that gains much" not in said


def test_weights_that_would_be_downloaded_are_not(photos, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    said = _said(capsys, Config(data=f"folder:{photos}", image_size=32))
    assert "weights: imagenet, which is not on this machine; the run would download it" in said
    assert "solve the head, then fine-tune" in said and list(tmp_path.iterdir()) == []


@pytest.mark.large
def test_a_long_audit_is_left_to_the_run(photos, tiny, capsys, monkeypatch):
    asked = Config(data=f"folder:{photos}", backbone=tiny, image_size=32, phases="all(epochs=1)")
    whole = _said(capsys, asked)
    monkeypatch.setattr(dry_run, "MAX_AUDIT_SECONDS", 0.0)
    left = _said(capsys, asked)
    assert "audit: left to the run; 48 files" in left
    table = [line for line in whole.splitlines() if line.startswith(("class", "disc", "square", "images"))]
    assert table == [line for line in left.splitlines() if line.startswith(("class", "disc", "square", "images"))]


def test_findings_that_are_not_shown_are_left_to_the_audit(photos, tiny, capsys, tmp_path):
    folder = shutil.copytree(photos, tmp_path / "photos")
    for index in range(7):
        (folder / "disc" / f"empty_{index}.jpg").touch()
    said = _said(capsys, Config(data=f"folder:{folder}", backbone=tiny))
    assert "... and 2 more left out: kerasft audit lists them" in said and "audit.json" not in said


@pytest.mark.large
def test_a_file_that_is_too_large_to_be_read_is_left_out(photos, tiny, capsys, monkeypatch, tmp_path):
    folder = shutil.copytree(photos, tmp_path / "photos")
    with (folder / "disc" / "film.mp4").open("wb") as file:
        file.truncate(files.MAX_IMAGE_BYTES + 1)
    monkeypatch.setattr(dry_run, "MAX_AUDIT_SECONDS", 0.0)
    left = _said(capsys, Config(data=f"folder:{folder}", backbone=tiny, image_size=32, phases="all(epochs=1)"))
    assert "images" in left


@pytest.mark.parametrize("seconds", [None, 0.0])
def test_what_the_run_refuses_is_refused(photos, tiny, monkeypatch, tmp_path, seconds):
    folder = shutil.copytree(photos, tmp_path / "photos")
    with (folder / "disc" / "film.mp4").open("wb") as file:
        file.truncate(files.MAX_IMAGE_BYTES + 1)
    if seconds is not None:
        monkeypatch.setattr(dry_run, "MAX_AUDIT_SECONDS", seconds)
    asked = Config(data=f"folder:{folder}", backbone=tiny, image_size=32, phases="head(epochs=0)", bad_images="fail")
    rule = r"--bad_images: 1 files or folders cannot be used, such as disc/film\.mp4\. Received: 'fail'"
    with pytest.raises(UserError, match=rule):
        dry_run.show(asked)


def test_the_work_of_phases(photos, tiny):
    data = splits_of(f"folder:{photos}")
    network = networks.build(Config(backbone=tiny, image_size=32), 2, "single_label")
    train, val = len(data.train), len(data.val)
    every = dry_run.forward_passes(network, strategies.full(epochs=2, augment=()), train, val)
    assert every == pytest.approx(val + 2 * (4 * train + val))
    solved = dry_run.forward_passes(network, strategies.head(epochs=0, augment=()), train, val)
    assert 0.5 * (train + val) < solved <= train + val
    top = dry_run.forward_passes(network, strategies.top(unfreeze=0.5, epochs=2, augment=()), train, val)
    anew = dry_run.forward_passes(network, strategies.top(unfreeze=0.5, epochs=2, views=0, augment=()), train, val)
    assert solved < top < anew < every


def test_the_work_counts_the_augmentations_that_the_run_caches(photos, tiny, tmp_path):
    data = splits_of(f"folder:{photos}")
    network = networks.build(Config(backbone=tiny, image_size=32), 2, "single_label")
    train, val = len(data.train), len(data.val)
    recipe = specs.parse("crop | flip", "--augment")
    for epochs, views in ((30, 8), (4, 0)):
        phase = replace(strategies.head(epochs=epochs), augment=recipe)
        assert phase_inputs.plan(network, data, phase, DiskCache(tmp_path, 10**9, False)).views == views
        front, _ = caching.split_at_cut(network, phase)
        share = forward_work(front) / forward_work(network.model)
        ahead = share * (views * train + val) if views else val + epochs * share * (train + val)
        expected = ahead + epochs * (1 - share) * (4 * train + val)
        assert dry_run.forward_passes(network, phase, train, val) == pytest.approx(expected)


def test_a_list_of_backbones_is_chosen_from_when_the_run_starts(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    dry_run._show_settings(Config(backbone="MobileNet | MobileNetV2"), "x", tmp_path, is_finished=False)
    assert "measured when the run starts: backbone, framing" in capsys.readouterr().out
    dry_run._show_settings(Config(tta="auto"), "digits", tmp_path, is_finished=False)
    assert "measured when the run starts: framing, augment, tta" in capsys.readouterr().out
