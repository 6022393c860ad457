"""Predictions for files: the same rows in three forms, bad files in their places, and going on after a kill."""

import csv
import functools
import io
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import exported
import numpy as np
import pytest
from conftest import ROOT, make_image, write
from unreadable import closed

from kerasft.predict import batches, chunks, label_images, local, sources
from kerasft.predict.predictions import Model, Prediction, RefusedBatch
from kerasft.runtimes.model import LoadedModel, Signature
from kerasft.settings.errors import UserError


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """70 images and five files that are none, more than two batches of them."""
    root = tmp_path_factory.mktemp("new") / "photos"
    for index in range(70):
        write(root / f"{'disc' if index % 2 else 'nested/square'}" / f"{index:03d}.png", "disc", index)
    (root / "disc" / "empty.jpg").touch()
    (root / "disc" / "half, of it.jpg").write_bytes((root / "disc" / "001.png").read_bytes()[:200])
    (root / "readme.txt").write_text("no image")
    (root / "gone.png").symlink_to("nowhere")
    os.mkfifo(root / "pipe.png")
    (root / ".hidden.png").write_bytes(b"x")
    (root / "Thumbs.db").write_bytes(b"x")
    return root


@pytest.fixture(autouse=True, scope="module")
def _loaded_once():
    """Each model is read and traced once for the module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "load", functools.cache(local.load))
        yield


BAD = {"disc/empty.jpg", "disc/half, of it.jpg", "gone.png", "pipe.png", "readme.txt"}


def models(task: str, tiny: str, factory) -> str:
    return str(exported.saved_model(task, tiny, factory))


def direct(model: str, paths: list[Path]) -> dict[str, np.ndarray]:
    """What the SavedModel itself says, one image at a time."""
    import tensorflow as tf

    loaded = tf.saved_model.load(f"{model}/1")
    serve = loaded.signatures["serving_default"]
    rows = [serve(image_bytes=tf.constant([path.read_bytes()])) for path in paths]
    return {name: np.concatenate([row[name].numpy() for row in rows]) for name in rows[0]}


@pytest.mark.parametrize("task", ["single_label", "multi_label", "regression"])
def test_the_three_forms_say_the_same(task, tiny, tmp_path_factory, folder, tmp_path, capsys):
    import pyarrow.parquet as pq

    model = models(task, tiny, tmp_path_factory)
    for form in ("csv", "jsonl", "parquet"):
        assert label_images.predict(model, str(folder), str(tmp_path / f"out.{form}")) == len(BAD)
    assert "75 files, 5 of them failed" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "out.jsonl", "out.parquet"]
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        texts = list(csv.DictReader(file))
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    table = pq.read_table(tmp_path / "out.parquet")
    rows = table.to_pylist()
    names = [os.path.relpath(path, folder) for path in sorted(map(str, folder.rglob("*"))) if not os.path.isdir(path)]
    names = [name for name in names if name not in (".hidden.png", "Thumbs.db")]
    for found in (texts, lines, rows):
        assert [os.path.relpath(row["path"], folder) for row in found] == names
        assert {os.path.relpath(row["path"], folder) for row in found if row.get("error")} == BAD
    assert [row["error"] or None for row in texts] == [row.get("error") for row in lines] == [r["error"] for r in rows]
    good = [i for i, row in enumerate(rows) if row["error"] is None]
    truth = direct(model, [folder / names[i] for i in good])
    if task == "regression":
        assert table.column_names == ["path", "angle", "height", "error"]
        assert np.ptp(truth["values"], axis=0).min() > 1
        np.testing.assert_allclose([[rows[i]["angle"], rows[i]["height"]] for i in good], truth["values"], rtol=1e-4)
        for i in good:
            assert lines[i]["values"] == {"angle": rows[i]["angle"], "height": rows[i]["height"]}
            assert (float(texts[i]["angle"]), float(texts[i]["height"])) == (rows[i]["angle"], rows[i]["height"])
        return
    np.testing.assert_allclose([rows[i]["probabilities"] for i in good], truth["probabilities"], atol=1e-5)
    assert json.loads(table.schema.metadata[b"classes"]) == list(exported.NAMES[task])
    for k, i in enumerate(good):
        named = [(label["class"], label["score"]) for label in lines[i]["labels"]]
        if task == "single_label":
            assert table.column_names == ["path", "class", "score", "probabilities", "error"]
            assert named[0] == (rows[i]["class"], rows[i]["score"]) == (texts[i]["class"], float(texts[i]["score"]))
            assert named[0][0] == truth["classes"][k, 0].decode()
        else:
            assert table.column_names == ["path", "labels", "scores", "probabilities", "error"]
            assert named == list(zip(rows[i]["labels"], rows[i]["scores"]))
            assert texts[i]["labels"] == "|".join(rows[i]["labels"])
            present = {name for name, given in zip(exported.NAMES[task], truth["predicted"][k]) if given}
            assert set(rows[i]["labels"]) == present
    if task == "multi_label":  # some image has more labels than the best five of `classes`
        assert max(len(row["labels"] or ()) for row in rows) > 5


def test_without_out_each_image_is_a_line(tiny, tmp_path_factory, folder, capsys):
    model = models("single_label", tiny, tmp_path_factory)
    assert label_images.predict(model, f"{folder}/disc/e*", "") == 1
    assert label_images.predict(model, f"{folder}/disc/001.png", "") == 0
    bad, good = capsys.readouterr().out.splitlines()
    assert bad.startswith(f"{folder}/disc/empty.jpg: ERROR the model refuses it: ")
    assert good.startswith(f"{folder}/disc/001.png: ")
    assert len(good.split("  ")) == 3


def test_small_values_keep_their_digits_on_the_screen():
    values = Prediction("regression", ["a", "b", "c"], np.float32([0.00001234, -0.05, 12.5]))
    assert label_images._format_prediction(values) == "a 1.234e-05  b -0.05  c 12.5000"
    scores = Prediction("single_label", ["a", "b"], np.float32([0.99999, 0.00001]))
    assert label_images._format_prediction(scores) == "a 1.0000  b 0.0000"


@pytest.mark.large
def test_a_kill_costs_one_stretch_and_the_table_is_the_same(tiny, tmp_path_factory, folder, tmp_path, monkeypatch):
    """kill -9 in the real command, as soon as something is done; then the same command."""
    model = models("single_label", tiny, tmp_path_factory)
    many = tmp_path / "many"
    many.mkdir()
    originals = sorted((folder / "disc").iterdir())
    for index in range(2000):
        os.link(originals[index % len(originals)], many / f"{index:05d}.jpg")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    flags = ["--mode=predict", f"--model={model}", "--images=many"]
    line = [sys.executable, "-m", "kerasft.run", *flags, "--out=killed.parquet"]
    with subprocess.Popen(line, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL) as process:
        until = time.monotonic() + 120
        while not list(tmp_path.glob("killed.parquet.part/*.stretch")) and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    done = 512 * len(list(tmp_path.glob("killed.parquet.part/*.stretch")))
    assert 0 < done < 2000
    assert not (tmp_path / "killed.parquet").exists()
    again = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert again.returncode == 0, again.stderr
    assert f"{done:,} of 2,000 are already done" in again.stdout
    monkeypatch.chdir(tmp_path)
    label_images.predict(model, "many", "whole.parquet")
    assert (tmp_path / "killed.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert not list(tmp_path.glob("*.part"))


def stand_in(log: list, digest: str = "a") -> Model:
    """Says of an image how many bytes it has."""

    def answer(contents: list[bytes]) -> list[Prediction]:
        if b"bad" in contents:
            raise RefusedBatch("bad")
        log.append(len(contents))
        return [Prediction("regression", ["size"], np.float32([len(content)])) for content in contents]

    return Model(answer, lambda: digest, "regression", ["size"], 2)


def test_only_what_is_left_or_has_changed_is_done_again(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_SIZE", 64)
    for index in range(300):
        (tmp_path / f"{index:03d}.jpg").write_bytes(b"x" * index)
    images = sources.ImageFiles([f"{index:03d}.jpg" for index in range(300)], tmp_path)
    place = chunks.chunk_folder(tmp_path / "o.csv")
    place.mkdir()
    log = []
    filled, scored = chunks.predict_chunks(place, stand_in(log), images)
    assert (sum(log), scored, len(filled)) == (300, 300, 5)
    filled[1][1].unlink()
    filled[2][1].write_bytes(filled[2][1].read_bytes()[:-40])
    (tmp_path / "299.jpg").write_bytes(b"")
    (place / f".{filled[0][1].name}.part").write_bytes(b"half")
    log.clear()
    again, scored = chunks.predict_chunks(place, stand_in(log), images)
    assert sum(log) == scored == 64 + 64 + 44
    assert [path for _, path in again][:4] == [path for _, path in filled][:4]
    assert len(list(place.iterdir())) == 5
    out = capsys.readouterr().out
    assert "128 of 300 are already done" in out
    assert "1 chunks belong to another model or to other images; they are predicted again" in out
    assert chunks.predict_chunks(place, stand_in([], "b"), images)[1] == 300
    assert "5 chunks belong to another model" in capsys.readouterr().out


def test_no_more_batches_are_read_than_are_under_way(tmp_path):
    """A list of a million must not become a million answers in memory."""
    asked = []

    def endless():
        while True:
            asked.append(["missing"] * batches.BATCH_SIZE)
            yield asked[-1]

    answers = batches.predict_batches(stand_in([]), sources.ImageFiles([], tmp_path), endless())
    for count in range(1, 6):
        assert next(answers)[0].error == "No such file or directory"
        assert len(asked) <= count + 2
    answers.close()


def test_a_bad_image_fails_none_but_itself(tmp_path):
    names = []
    for index in range(32):
        (tmp_path / f"{index}").write_bytes(b"bad" if index in (7, 31) else b"x" * index)
        names.append(f"{index}")
    log = []
    (rows,) = batches.predict_batches(stand_in(log), sources.ImageFiles(names, tmp_path), [names])
    assert [i for i, row in enumerate(rows) if row.error] == [7, 31]
    assert [row.numbers[0] for row in rows if not row.error] == [i for i in range(32) if i not in (7, 31)]
    assert len(log) < 12  # by halves, not one by one


def test_two_commands_do_not_write_one_table(tmp_path):
    place = chunks.chunk_folder(tmp_path / "o.csv")
    message = "--out: another process is writing this table. Received: '.*o.csv'"
    with chunks.lock_folder(place), pytest.raises(UserError, match=message), chunks.lock_folder(place):
        pass
    assert not place.exists()


def test_the_table_in_the_folder_of_the_images_is_none_of_them(tiny, tmp_path_factory, folder, tmp_path):
    model = models("single_label", tiny, tmp_path_factory)
    shutil.copy(folder / "disc" / "001.png", tmp_path)
    for _ in range(2):
        assert label_images.predict(model, str(tmp_path), str(tmp_path / "out.csv")) == 0
        assert len((tmp_path / "out.csv").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("x", "y", "o.xls"), r"--out: must end in one of .csv, .jsonl, .parquet. Received: 'o.xls'"),
        (("x", "y", "d.csv"), "--out: is a folder"),
        (("x", "t.csv", "./t.csv"), "--out: is the table of --images, which stays as it is"),
        (("x", "y", "t.csv"), "--out: is there already, and no table of predict; name another file. Received: 't.csv'"),
        (("x", "", ""), "--images: a file, a folder, a .csv with a column path, or a pattern"),
        (("", "y", ""), "--model: the folder of an exported model is needed, such as saved_models/NAME. Received: ''"),
        (("", "y", "", "ftp://x/v1/models/y"), "--url: must be http://HOST:PORT/v1/models/NAME"),
    ],
)
def test_mistakes_are_said(flags, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("d.csv").mkdir()
    Path("t.csv").write_text("path\n")
    with pytest.raises(UserError, match=message):
        label_images.predict(*flags)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("a file", "must be a SavedModel, an artefact of --export, or a folder of numbered ones"),
        ("empty", "must be a SavedModel, an artefact of --export, or a folder of numbered ones"),
        ("no definition", r"cannot be loaded \(saved_model.pb is empty\)"),
        ("cut short", r"cannot be loaded \(Cannot parse file"),
        ("no variables", r"cannot be loaded \(its folder 'variables' is missing or incomplete\)"),
        ("somebody else's", "must be a SavedModel that kerasft has exported"),
    ],
)
def test_a_model_that_cannot_be_used_is_one_message(kind, message, tiny, tmp_path_factory, tmp_path):
    """For predict and for serve."""
    import tensorflow as tf

    model = tmp_path / "model"
    if kind == "a file":
        model.write_text("x")
    elif kind == "empty":
        model.mkdir()
    elif kind == "somebody else's":
        module = tf.Module()
        module.same = tf.function(lambda x: {"y": x}, input_signature=[tf.TensorSpec([], name="x")])
        tf.saved_model.save(module, str(model / "1"), signatures={"serving_default": module.same})
    else:
        shutil.copytree(models("single_label", tiny, tmp_path_factory), model)
        file = model / "1" / "saved_model.pb"
        if kind == "no variables":
            shutil.rmtree(model / "1" / "variables")
        else:
            file.write_bytes(file.read_bytes()[: 2000 if kind == "cut short" else 0])
    with pytest.raises(UserError, match=f"^--model: .*{message}.* Received: '{model}"):
        label_images.predict(str(model), str(tmp_path), "")
    if kind in ("a file", "empty"):
        return
    pytest.importorskip("kserve")
    from kerasft.serve import repository, versions

    # Serve also takes models of others, if they take images one by one.
    message = message.replace(
        "must be a SavedModel that kerasft has exported", "a signature 'serving_default' of one input"
    )
    with pytest.raises(UserError, match=message.replace("cannot be loaded", ".*cannot be loaded")):
        repository.load_newest(versions.find_source(str(model)), 2)


def test_a_table_that_cannot_be_written_is_said_first(tiny, tmp_path_factory, folder, tmp_path):
    (tmp_path / "file").touch()
    model = models("single_label", tiny, tmp_path_factory)
    with pytest.raises(UserError, match="--out: cannot be written"):
        label_images.predict(model, str(folder), str(tmp_path / "file" / "o.csv"))


def test_a_model_is_known_by_its_bytes(tiny, tmp_path_factory, tmp_path):
    version = Path(models("single_label", tiny, tmp_path_factory)) / "1"
    copy = tmp_path / "7"
    shutil.copytree(version, copy)
    assert local._digest(copy) == local._digest(version)
    weights = next(copy.glob("variables/*.data*"))
    content = bytearray(weights.read_bytes())
    content[100] ^= 1
    weights.write_bytes(content)
    assert local._digest(copy) != local._digest(version)


def test_an_image_of_too_many_pixels_is_not_decoded(tiny, tmp_path_factory):
    """Pillow cannot open it for its text, so nobody looked at its size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 22_000, 22_000, 1, 0, 0, 0, 0))
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(1 << 21)))
    rows = chunk(b"IDAT", zlib.compress(bytes(2751) * 22_000, 9))
    bomb = b"\x89PNG\r\n\x1a\n" + head + text + rows + chunk(b"IEND", b"")
    model = local.load(models("single_label", tiny, tmp_path_factory))
    with pytest.raises(RefusedBatch, match="has 484,000,000 pixels; at most 134,217,728 are decoded"):
        model.predict([bomb])
    dot = io.BytesIO()
    make_image("disc", np.random.default_rng(0), 64, 64).resize((1, 1)).save(dot, "PNG")
    with pytest.raises(RefusedBatch, match="has 1x1 pixels; at least 64 pixels are needed"):
        model.predict([dot.getvalue()])
    palette = io.BytesIO()
    make_image("disc", np.random.default_rng(0), 64, 64).quantize(16).save(palette, "BMP")
    with pytest.raises(RefusedBatch, match=r"^a BMP with a palette of colours, which TensorFlow does not read"):
        model.predict([palette.getvalue()])


def test_images_that_cannot_be_read_are_not_blamed_on_the_table(tmp_path, monkeypatch):
    locked = tmp_path / "locked"
    locked.mkdir()
    model = Model(lambda contents: [], lambda: "", "single_label", ["a"], concurrency=1)
    monkeypatch.setattr(label_images, "_load_model", lambda *_: model)
    closed(monkeypatch, locked)
    with pytest.raises(PermissionError) as caught:
        label_images.predict("model", f"{locked}/images", str(tmp_path / "out.csv"))
    assert caught.value.filename == f"{locked}/images"
    assert not (tmp_path / "out.csv.part").exists()


@pytest.mark.parametrize(
    ("name", "outputs", "known"),
    [
        ("image_bytes", ("values",), True),
        ("image_bytes", ("classes", "scores", "probabilities"), True),
        ("image_bytes", ("logits",), False),
        ("image_bytes", ("classes", "scores"), False),
        ("images", ("values",), False),
    ],
)
def test_a_foreign_model_is_refused(tmp_path, monkeypatch, name, outputs, known):
    (tmp_path / "saved_model.pb").touch()
    signature = Signature(name, None, dict.fromkeys(outputs), None)
    loaded = LoadedModel({}, {"serving_default": signature}, {}, "")
    monkeypatch.setattr(local.runtimes, "load", lambda *_, **__: loaded)
    if known:
        assert local.load.__wrapped__(str(tmp_path)).concurrency == 2
        return
    with pytest.raises(UserError, match=r"--model: must be a SavedModel that kerasft has exported.*Received: "):
        local.load.__wrapped__(str(tmp_path))
