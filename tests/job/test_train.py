"""The main job through the real command on small real data: train, evaluate, export, predict."""

import csv
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, shared
from tables import first_cells

from kerasft.data import audit as audits
from kerasft.job import train, train_phases
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.storage import run_lock

SMALL = ("--backbone=MobileNet(alpha=0.25)", "--weights=none", "--image_size=64", "--batch_size=8")
TRAIN = ("--phases=all(epochs=3, lr=1e-3, batch_norm='train', image_size=32)", "--run_dir=run")
TRAIN += ("--augment=flip | randaugment(2, 9) | erase(0.25) | mixup(0.2)", "--class_weights=balanced")


def _metrics(folder) -> dict:
    return json.loads((folder / "metrics.json").read_text())


@pytest.fixture(scope="module")
def finished(photos, tmp_path_factory):
    """A finished run on the small photographs, one of them spoiled: (folder it was run in, its screen)."""
    place = tmp_path_factory.mktemp("job")
    data = place / "shapes"
    shutil.copytree(photos, data)
    (data / "disc" / 'bad, "name" é.jpg').write_bytes(b"no image")
    line = [sys.executable, "-m", "kerasft.run", f"--data=folder:{data}", *SMALL, *TRAIN]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(line, cwd=place, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return place, done


def test_the_screen_says_what_was_done_and_nothing_else(finished):
    _, done = finished
    for part in (
        'left out: disc/bad, "name" é.jpg: not an image',
        "audit: ",
        "phases: ",
        "01-all",
        "test: accuracy",
        "exported: saved_models/shapes/1",
    ):
        assert part in done.stdout
    assert done.stderr == ""


def test_metrics_hold_the_contract(finished):
    place, _ = finished
    metrics = _metrics(place / "run")
    assert metrics["task"] == "single_label"
    assert metrics["classes"] == ["disc", "square"]
    assert {"accuracy", "macro_f1", "ece", "loss", "n", "per_class", "confusion_matrix"} <= metrics["test"].keys()
    assert {"accuracy", "loss", "n"} <= metrics["val"].keys()
    assert {"audit", "train", "evaluate", "export", "total"} == metrics["seconds"].keys()
    assert metrics["peak_rss_mb"] > 100
    assert len(metrics["weights_sha256"]) == 64
    assert {"path", "max_abs_diff", "top1_agreement", "n"} == metrics["export"].keys()
    cost = metrics["cost"]
    assert {"parameters", "macs", "images_per_second", "bytes"} == cost.keys()
    assert cost["images_per_second"].keys() == {"1", "32"} and min(cost["images_per_second"].values()) > 0
    assert cost["bytes"] > 4 * cost["parameters"] > 0
    (phase,) = metrics["phases"]
    assert {
        "name",
        "seconds",
        "epochs",
        "images_per_second",
        "val_before",
        "val_after",
        "accepted",
        "cached",
    } <= phase.keys()
    assert phase["val_after"] <= phase["val_before"]


def test_the_page_of_metrics_has_each_key(finished):
    place, _ = finished
    metrics, documented = _metrics(place / "run"), first_cells("metrics.md")
    assert metrics.keys() <= documented and metrics["settled"].keys() <= {
        *documented,
        *(f"{name}_{kind}" for name in documented for kind in ("reason", "table")),
    }


def test_the_run_folder_is_complete(finished):
    place, _ = finished
    run = place / "run"
    names = {
        ".lock",
        "config.json",
        "manifest.npz",
        "run.flags",
        "audit.json",
        "history.jsonl",
        "metrics.json",
        "phases",
        "predictions.npz",
        "model.keras",
        "report.html",
        "settled.json",
        "suspects.csv",
        "tensorboard",
    }
    assert {path.name for path in run.iterdir()} == names
    audit = json.loads((run / "audit.json").read_text())
    assert audit["files"] == 49
    # Some of the painted squares are near duplicates.
    rejected = [(f["path"], f["kind"]) for f in audit["findings"] if f["verdict"] == "reject"]
    assert rejected == [('disc/bad, "name" é.jpg', "not_an_image")]
    assert (
        sum(audit["counts"]["train"].values())
        + sum(audit["counts"]["val"].values())
        + sum(audit["counts"]["test"].values())
        == 48
    )
    rows = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert list((run / "tensorboard").rglob("events*"))


def test_the_export_has_a_model_card(finished):
    place, _ = finished
    card = (place / "saved_models/shapes/1/MODEL_CARD.md").read_text()
    metrics = _metrics(place / "run")
    for part in ("# shapes, version 1", "1 × not an image: left out", metrics["weights_sha256"], "**not stated**"):
        assert part in card
    assert f"- Parameters: {metrics['cost']['parameters']:,}" in card


def test_every_figure_follows_from_the_predictions(finished):
    place, _ = finished
    test = _metrics(place / "run")["test"]
    with np.load(place / "run" / "predictions.npz") as stored:
        p, labels = stored["probabilities"], stored["labels"]
        assert len(stored["ids"]) == len(labels) == test["n"]
    assert test["accuracy"] == (p.argmax(1) == labels).mean()
    assert test["loss"] == pytest.approx(-np.log(p[np.arange(len(labels)), labels]).mean(), rel=1e-4)


def test_the_export_scores_alike_in_a_process_without_keras(finished):
    place, _ = finished
    code = """
import sys, numpy as np, tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
with np.load("run/predictions.npz") as stored:
    ids, labels, expected, classes = (stored[k] for k in ("ids", "labels", "probabilities", "classes"))
contents = [open(f"shapes/{name}", "rb").read() for name in ids]
answer = loaded.signatures["serving_default"](image_bytes=tf.constant(contents))
p = answer["probabilities"].numpy()
assert np.abs(p - expected).max() < 1e-4, np.abs(p - expected).max()
assert [row[0].decode() for row in answer["classes"].numpy()] == [str(classes[i]) for i in p.argmax(1)]
assert np.all(np.diff(answer["scores"].numpy(), axis=1) <= 0)
assert answer["scores"].dtype == answer["probabilities"].dtype == tf.float32
features = loaded.signatures["features"](image_bytes=tf.constant(contents[:2]))["features"]
assert features.shape == (2, 256), features.shape
images = loaded.signatures["images"](images=tf.zeros([3, 32, 32, 3]))
assert images["probabilities"].shape == (3, 2)
assert "kerasft" not in sys.modules
print("alike")
"""
    path = _metrics(place / "run")["export"]["path"]
    done = subprocess.run([sys.executable, "-c", code, path], cwd=place, capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "alike", done.stderr


def test_the_saved_model_is_the_one_that_was_measured(finished):
    import hashlib

    import keras

    place, _ = finished
    model = keras.models.load_model(place / "run" / "model.keras")
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(w).tobytes() for w in model.get_weights())).hexdigest()
    assert digest == _metrics(place / "run")["weights_sha256"]
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert {layer.momentum for layer in norms} == {0.99}


def test_a_finished_run_is_a_no_op_and_another_is_refused(finished, command):
    place, _ = finished
    flags = (f"--data=folder:{place / 'shapes'}", *SMALL, *TRAIN)
    before = (place / "run" / "metrics.json").stat().st_mtime_ns
    again = command(*flags, cwd=place)
    assert again.returncode == 0
    assert "run is finished with these settings; nothing to do" in again.stdout
    assert (place / "run" / "metrics.json").stat().st_mtime_ns == before
    other = command(*flags, "--seed=5", cwd=place)
    assert other.returncode == 2
    assert "--run_dir: holds another run (seed: 0 then, 5 now)" in other.stderr


def test_a_finished_run_says_that_its_data_have_changed(finished, command):
    place, _ = finished
    flags = (f"--data=folder:{place / 'shapes'}", *SMALL, *TRAIN)
    kept = (place / "shapes" / "disc" / "03.jpg").read_bytes()
    (place / "shapes" / "disc" / "more.jpg").write_bytes(kept)
    (place / "shapes" / "disc" / "03.jpg").unlink()
    changed = command(*flags, cwd=place)
    (place / "shapes" / "disc" / "more.jpg").unlink()
    (place / "shapes" / "disc" / "03.jpg").write_bytes(kept)
    assert changed.returncode == 2
    assert "--data: has changed since the run in 'run' began: 1 added (disc), 1 removed (disc); --no" in changed.stderr


@pytest.mark.parametrize(("name", "text"), [("metrics.json", "{"), ("metrics.json", "[]"), ("config.json", "{\x00")])
def test_a_damaged_file_of_the_run_folder_is_one_message(finished, command, name, text):
    place, _ = finished
    whole = (place / "run" / name).read_bytes()
    (place / "run" / name).write_text(text)
    done = command(f"--data=folder:{place / 'shapes'}", *SMALL, *TRAIN, cwd=place)
    (place / "run" / name).write_bytes(whole)
    assert done.returncode == 2
    assert done.stderr.startswith(f"--run_dir: {name} is damaged (")
    assert f"; --noresume starts the run again. Received: 'run/{name}'" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.large
def test_a_limit_on_files_is_told_and_the_same_command_goes_on_afterwards(photos, tiny, tmp_path):
    line = f"{sys.executable} -m kerasft.run --data={photos} --backbone={tiny} --head_init=zeros --precision=float32"
    line += " '--phases=head(epochs=2)' --augment=none --batch_size=8 --run_dir=run --notensorboard --cache_gb=0"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for limit, status in (("ulimit -f 16; ", 2), ("", 0)):
        whole = ["bash", "-c", limit + line]
        done = subprocess.run(whole, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == status, done.stderr
        if limit:
            assert done.stderr.startswith("--run_dir: the file would be larger than this process may write")
            assert "are needed in all; what was saved is kept, and the same command resumes from it" in done.stderr
            assert "Traceback" not in done.stderr


@pytest.mark.parametrize("flags", [(), ("--mode=tune", "--search=lr=log(1e-4, 1e-2)", "--phases=head(epochs=1)")])
def test_a_second_run_on_one_folder_is_told_who_is_working_in_it(photos, command, tmp_path, flags):
    with run_lock.locked(tmp_path / "run"):
        done = command(f"--data={photos}", "--run_dir=run", *flags, cwd=tmp_path)
    assert done.returncode == 2
    assert f"another run is working in it (process {os.getpid()} on {platform.node()}, since " in done.stderr
    assert not (tmp_path / "run" / "config.json").exists()


def test_run_flags_replay_to_the_same_run(finished, command):
    place, _ = finished
    again = command("--flagfile=run/run.flags", cwd=place)
    assert again.returncode == 0, again.stderr
    assert "nothing to do" in again.stdout


@pytest.mark.large
def test_predict_labels_files_and_names_what_it_cannot_read(finished, command):
    place, _ = finished
    done = command(
        "--mode=predict", "--model=saved_models/shapes", "--images=shapes/disc/*", "--out=out.csv", cwd=place
    )
    assert done.returncode == 0, done.stderr
    with (place / "out.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 25
    bad = [row for row in rows if row["error"]]
    assert [row["path"] for row in bad] == ['shapes/disc/bad, "name" é.jpg']
    assert all(row["class"] in ("disc", "square") for row in rows if not row["error"])
    with np.load(place / "run" / "predictions.npz") as stored:
        expected = {str(name): p.max() for name, p in zip(stored["ids"], stored["probabilities"])}
    for row in rows:
        name = row["path"].removeprefix("shapes/")
        assert name not in expected or float(row["score"]) == pytest.approx(expected[name], abs=1e-4)
    screen = command("--mode=predict", "--model=saved_models/shapes/1", "--images=shapes/disc/00.jpg", cwd=place)
    assert screen.stdout.startswith("shapes/disc/00.jpg: ")
    lines = command(
        "--mode=predict", "--model=saved_models/shapes", "--images=shapes/*/0?.jpg", "--out=o.jsonl", cwd=place
    )
    assert lines.returncode == 0
    assert len((place / "o.jsonl").read_text().splitlines()) == 20


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--model=nowhere", "--images=x"), "--images: no file matches"),
        (("--model=.", "--images=shapes/disc/00.jpg"), "--model: must be a SavedModel"),
        (
            ("--model=saved_models/shapes", "--images="),
            "--images: a file, a folder, a .csv with a column path, or a pattern",
        ),
        (
            ("--model=saved_models/shapes", "--images=shapes/disc/00.jpg", "--out=x.xls"),
            "--out: must end in one of .csv, .jsonl, .parquet",
        ),
    ],
)
def test_mistakes_of_predict(finished, command, flags, message):
    if flags[0] == "--model=nowhere":
        message = "--model: there is no such folder"
    done = command("--mode=predict", *flags, cwd=finished[0])
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_bad_images_can_stop_a_run(finished, command):
    place, _ = finished
    done = command(f"--data=folder:{place / 'shapes'}", *SMALL, "--bad_images=fail", "--run_dir=strict", cwd=place)
    assert done.returncode == 2
    assert "--bad_images: 1 files or folders cannot be used" in done.stderr
    assert (place / "strict" / "audit.json").exists()


def test_a_place_that_cannot_be_written_is_said_before_training(photos, command, tmp_path):
    (tmp_path / "file").write_text("x")
    flags = (f"--data=folder:{photos}", *SMALL, "--phases=all(epochs=1)")
    for flag in ("--export_dir=file", "--run_dir=file/run"):
        done = command(*flags, flag, cwd=tmp_path)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert "file" in done.stderr
        assert "epoch" not in done.stdout


@pytest.mark.parametrize(
    "flag",
    [
        "--augment=flipp",
        "--phases=top(unfreeze=nowhere)",
        "--optimizer=adamv",
        "--loss=mse2",
        "--phases=all(augment=rotat)",
        "--phases=all(augment=cutmix, loss=SparseCategoricalCrossentropy)",
    ],
)
def test_a_mistake_in_a_phase_is_told_before_an_image_is_read(flag, photos, command, tmp_path):
    done = command(f"--data=folder:{photos}", *SMALL, "--phases=all(epochs=1)", flag, cwd=tmp_path)
    assert done.returncode == 2
    assert flag.partition("=")[0].replace("phases", "") in done.stderr
    assert "Received: " in done.stderr
    assert "Traceback" not in done.stderr
    assert "audit" not in done.stdout


@pytest.fixture(scope="module")
def weights(photos, tmp_path_factory):
    """Weights of a small backbone in a file, so that a run takes it for pretrained; its statistics fit the images."""
    import keras
    from PIL import Image

    from kerasft.networks import backbones

    keras.utils.set_random_seed(0)
    path = tmp_path_factory.mktemp("weights") / "small.weights.h5"
    model = backbones.load("MobileNet(alpha=0.25)", "none", 32).model
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in norms:
        layer.momentum = 0.0
    images = [np.asarray(Image.open(file).resize((32, 32)), np.float32) for file in sorted(photos.rglob("*.jpg"))]
    model(np.stack(images), training=True)
    model.save_weights(path)
    return path


@pytest.mark.large
def test_same_seed_same_weights_and_a_stopped_run_goes_on_to_them(photos, tiny, command, tmp_path):
    """A run under --deterministic, and one that is terminated and started again: one digest."""
    flags = (
        f"--data=folder:{photos}",
        f"--backbone={tiny}",
        "--batch_size=8",
        "--deterministic",
        "--head=linear(dropout=0.2)",
    )
    flags += (
        "--phases=head(epochs=2, lr=1e-2, views=1) | all(epochs=4, lr=1e-3, batch_norm='train')",
        "--augment=crop | flip | color | randaugment(2, 9) | erase(0.25) | mixup(0.2) | cutmix",
    )
    done = command(*flags, "--run_dir=a", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    line = [sys.executable, "-m", "kerasft.run", *flags, "--run_dir=c"]
    stopped = subprocess.Popen(
        line, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    history = tmp_path / "c" / "history.jsonl"
    deadline = time.monotonic() + 300
    while not (history.exists() and len(history.read_text().splitlines()) >= 4) and time.monotonic() < deadline:
        time.sleep(0.02)
    stopped.send_signal(signal.SIGTERM)
    _, errors = stopped.communicate(timeout=60)
    assert stopped.returncode == 3, errors
    assert "the same command resumes" in errors
    again = command(*flags, "--run_dir=c", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "going on where the run was stopped: phase 2 of 2 (all), " in again.stdout
    assert _metrics(tmp_path / "c")["weights_sha256"] == _metrics(tmp_path / "a")["weights_sha256"]
    rows = [json.loads(line) for line in history.read_text().splitlines()]
    assert [row["step"] for row in rows] == sorted({row["step"] for row in rows})
    assert len(rows) == 6


@pytest.mark.large
def test_killed_at_random_moments_a_run_ends_the_same(photos, weights, tmp_path):
    """kill -9, again and again: same weights, same history, one export, nothing from scratch."""
    line = [
        sys.executable,
        str(ROOT / "benchmarks" / "training" / "kills.py"),
        f"--data=folder:{photos}",
        f"--weights={weights}",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*line, f"--out={tmp_path}", "--modes=train", "--kills=3"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 faults" in done.stdout


@pytest.mark.large
def test_a_phase_that_does_not_help_is_undone(photos, tiny, command, tmp_path):
    flags = (f"--data=folder:{photos}", f"--backbone={tiny}", "--batch_size=8", "--augment=none")
    # Too small a rate to gain anything, large enough to move the bits.
    done = command(*flags, "--phases=head | all(epochs=1, lr=1e-7)", "--run_dir=a", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first, second = _metrics(tmp_path / "a")["phases"]
    assert (second["accepted"], second["share"]) == (False, 0.0)
    assert second["val_after"] == second["val_before"] == pytest.approx(first["val_after"], rel=1e-3)
    alone = command(*flags, "--phases=head", "--run_dir=b", "--nowarmup", cwd=tmp_path)
    assert alone.returncode == 0
    assert _metrics(tmp_path / "a")["weights_sha256"] == _metrics(tmp_path / "b")["weights_sha256"]
    found = [Path(_metrics(tmp_path / run)["export"]["path"], "assets.extra") for run in "ab"]
    warm = [(tmp_path / folder / "tf_serving_warmup_requests").exists() for folder in found]
    assert warm == [True, False]  # images go along unless it is said that they should not


PRESETS = [pytest.param(path.name, marks=pytest.mark.large) for path in sorted((ROOT / "pipelines").glob("*.flags"))]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_runs(preset, photos, two_digits, angles, weights, command, tmp_path):
    text = (ROOT / "pipelines" / preset).read_text()
    assert text.startswith("# Purpose: ")
    tables = {"multilabel.flags": f"csv:{two_digits}", "regression.flags": f"csv:{angles}"}
    stand_in = (
        f"--data={tables.get(preset, f'folder:{photos}')}",
        *SMALL,
        f"--weights={weights}",
        # Enough steps for one update of the preset that accumulates gradients.
        "--phases=all(epochs=2)",
    )
    done = command(f"--flagfile={ROOT / 'pipelines' / preset}", *stand_in, "--run_dir=r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "r" / "best" if "--mode=tune" in text else tmp_path / "r"
    assert (folder / "metrics.json").exists()


@pytest.mark.large
@pytest.mark.parametrize("data", ["hymenoptera", "flowers5"])
def test_shared_photographs_with_shared_weights(data, command, tmp_path):
    flags = (
        f"--data=folder:{shared('data', data)}",
        "--backbone=MobileNet(alpha=0.25)",
        "--phases=head | all(epochs=1)",
    )
    done = command(
        *flags, f"--weights={shared('weights', 'mobilenet_0.25_224_no_top.h5')}", "--run_dir=r", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    metrics = _metrics(tmp_path / "r")
    assert metrics["test"]["accuracy"] > 0.84
    assert metrics["export"]["top1_agreement"] == 1
    assert Path(tmp_path, metrics["export"]["path"], "saved_model.pb").exists()


@pytest.mark.large
def test_quickstart_reaches_its_accuracy(command, tmp_path):
    done = command(f"--flagfile={ROOT / 'pipelines' / 'quickstart.flags'}", "--run_dir=r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert _metrics(tmp_path / "r")["test"]["accuracy"] >= 0.95


def test_copies_missing_classes_and_images_that_vanish_are_told(photos, tiny, tmp_path, monkeypatch, capsys):
    root = tmp_path / "set"
    for part, kind, span in (("train", "disc", "0"), ("train", "square", "0"), ("test", "disc", "1")):
        (root / part / kind).mkdir(parents=True)
        for path in sorted((photos / kind).glob(f"{span}*.jpg")):
            shutil.copy(path, root / part / kind / path.name)
    shutil.copy(root / "train" / "square" / "00.jpg", root / "test" / "disc" / "leak.jpg")
    flags = {"backbone": tiny, "weights": "none", "phases": "head(epochs=1)", "image_size": 32, "augment": "none"}
    config = Config(data=f"folder:{root}", export_dir=str(tmp_path / "models"), run_dir=str(tmp_path / "run"), **flags)
    metrics = train.train(config).metrics
    shown = capsys.readouterr().out
    assert (metrics["test"]["n"], metrics["test"]["excluded_copies"], metrics["val"]["excluded_copies"]) == (10, 1, 0)
    assert "WARNING: test/ has no image of class 'square': the test score does not measure it" in shown
    assert "test: copies of images in train or val, which are not counted: 1" in shown
    assert "WARNING: the test score says nothing about classes without a test image: square" in shown
    page = (tmp_path / "run" / "report.html").read_text()
    assert "1 test image is a copy of training or validation images, and not counted" in page
    assert "The test split has no image of" in page

    monkeypatch.setattr(audits, "MAX_MEMORY_SHARE", 0.0)
    prepare = train_phases.audit_and_frame

    def vanishing(*given):
        data = prepare(*given)
        (root / data.train.ids[0]).unlink()
        return data

    monkeypatch.setattr(train_phases, "audit_and_frame", vanishing)
    again = replace(config, run_dir=str(tmp_path / "again"), cache_gb=1e-6)
    with pytest.raises(UserError, match=r"--data: an image can no longer be read .*Received: 'train/disc/\d+.jpg'"):
        train.train(again)
