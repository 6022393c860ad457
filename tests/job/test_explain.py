"""`kerasft explain` on a finished run: the files that it writes, and what they say; the digits through the real command."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import write
from pages import Page

from kerasft.evaluation import faithfulness
from kerasft.job import explain, explained_files, train
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.storage import run_lock

QUICK = {"phases": "head(epochs=0)", "augment": "none", "precision": "float32", "batch_size": 8, "jit": "off"}
QUICK |= {"tensorboard": False, "warmup": False}
FILES = {"multi_label": "two_digits", "regression": "angles"}


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory) -> Path:
    """A finished run on three classes of made-up images."""
    folder = tmp_path_factory.mktemp("run")
    _train(folder, tiny, "generated:3x12")
    return folder / "run"


def _train(folder: Path, backbone: str, data: str, **settings) -> None:
    places = {"run_dir": str(folder / "run"), "export_dir": str(folder / "exports")}
    train.train(Config(**QUICK | places | {"data": data, "backbone": backbone} | settings))


def _contract(values: dict) -> None:
    keys = {
        "run",
        "task",
        "classes",
        "methods",
        "notes",
        "check",
        "images",
        "prototypes",
        "left_out",
        "failed",
        "seconds",
    }
    assert set(values) == keys
    for name, method in values["methods"].items():
        assert set(method) == {"title", "layers", "side"}
        assert values["check"][name]["verdict"] in ("better", "partly", "no_better")
        for key in ("against_random", "against_other_images"):
            for measure in ("deletion", "insertion"):
                row = values["check"][name][key][measure]
                assert set(row) == {"maps", "others", "value", "low", "high"}
                assert row["value"] == pytest.approx(row["maps"] - row["others"])
    for row in values["images"]:
        assert {"file", "label", "right", "why", "answer", "neighbours"} <= set(row)
        assert ("value" if values["task"] == "regression" else "probability") in row
        similarities = [one["similarity"] for one in row["neighbours"]]
        assert len(similarities) == 3 and similarities == sorted(similarities, reverse=True)


def test_test_images_are_explained_into_the_run_folder(run, capsys):
    values = explain.explain(Config(), str(run))
    assert json.loads((run / "explain.json").read_text()) == values
    _contract(values)
    # The last map has two places a side: it says nothing.
    assert list(values["methods"]) == ["layer_cam"] and "Grad-CAM has no map" in values["notes"][0]
    with np.load(run / "predictions.npz") as stored:
        stored = dict(stored)
    place = {str(name): index for index, name in enumerate(stored["ids"])}
    assert values["check"]["n"] == min(24, len(place))
    classes, wrong = values["classes"], stored["probabilities"].argmax(-1) != stored["labels"]
    for row in values["images"]:
        index = place[row["file"]]
        assert row["label"] == classes[stored["labels"][index]]
        assert row["answer"] == classes[stored["probabilities"][index].argmax()]
        assert row["probability"] == pytest.approx(stored["probabilities"][index].max(), abs=1e-4)
        assert row["right"] == (not wrong[index])
        assert "mistake" in row["why"] or "layer_cam" in row["areas"]
    assert {row["file"] for row in values["images"] if "mistake" in row["why"]} == {
        str(name) for name in stored["ids"][wrong][:8]
    } or wrong.sum() > 8
    for name, rows in values["prototypes"].items():
        for one in rows:
            assert classes[stored["labels"][place[one["file"]]]] == name
    page = Page((run / "explain.html").read_text())
    assert (page.open, page.loose) == ([], [])
    said = capsys.readouterr().out
    assert "explain: Layer-CAM: " in said and f"explain: {run / 'explain.html'}" in said
    assert not (run / ".reopen").exists()


def test_files_are_explained_into_another_folder(run, tmp_path, capsys):
    write(tmp_path / "new" / "a.png")
    (tmp_path / "new" / "b.png").write_bytes(b"no image")
    values = explain.explain(Config(), str(run), str(tmp_path / "new"), str(tmp_path / "why"))
    _contract(values)
    (row,) = values["images"]
    assert row["file"].endswith("a.png") and row["label"] is None and row["why"] == ["asked"]
    assert [one["file"] for one in values["failed"]] == [str(tmp_path / "new" / "b.png")]
    assert "b.png: ERROR" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "why").iterdir()) == ["explain.html", "explain.json"]
    assert "b.png" in (tmp_path / "why" / "explain.html").read_text()


def test_a_bad_file_is_said_as_the_audit_says_it(tmp_path, capsys):
    write(tmp_path / "a.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:400])
    (tmp_path / "film.jpg").write_bytes(b"\0\0\0\x18ftypmp42")
    asked = explained_files.find(str(tmp_path))
    names, pixels = explained_files.decode(asked, 32, "crop")
    assert names == [str(tmp_path / "a.jpg")] and pixels.shape == (1, 32, 32, 3)
    assert [one["error"] for one in asked.failed] == [
        "Invalid JPEG data, size 400",
        "video (MP4 or QuickTime); TensorFlow reads JPEG, PNG, GIF, BMP and WebP: convert the file",
    ]
    assert "cut.jpg: ERROR Invalid JPEG data, size 400\n" in capsys.readouterr().out


def test_a_damaged_model_is_a_users_mistake(run, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in run.iterdir():
        if path.is_file():
            (copy / path.name).write_bytes(path.read_bytes())
    (copy / "model.keras").write_bytes(b"words")
    with pytest.raises(UserError, match=r"--model: Keras cannot load model\.keras .*Received: "):
        explain.explain(Config(), str(copy))


@pytest.mark.large
@pytest.mark.parametrize("task", FILES)
def test_other_tasks_and_mirrored_networks_of_several_depths(task, tmp_path, request):
    data = f"csv:{request.getfixturevalue(FILES[task])}"
    _train(tmp_path, "MobileNet(alpha=0.25)", data, weights="none", tta="flip", features="all", image_size=96)
    values = explain.explain(Config(), str(tmp_path / "run"))
    _contract(values)
    assert len(values["methods"]["grad_cam"]["layers"]) > 1
    assert bool(values["prototypes"]) == (task == "multi_label")
    with np.load(tmp_path / "run" / "predictions.npz") as stored:
        outputs = stored["values" if task == "regression" else "probabilities"]
        place = {str(name): index for index, name in enumerate(stored["ids"])}
    for row in values["images"]:
        column = values["classes"].index(row["answer"])
        found = row["value" if task == "regression" else "probability"]
        assert found == pytest.approx(outputs[place[row["file"]], column], rel=1e-3, abs=1e-3)


@pytest.mark.large
def test_the_digits_through_the_real_command(tmp_path, command):
    done = command("train", "--per_class_limit=40", "--phases=head", "--run_dir=run", cwd=tmp_path, module="kerasft")
    assert done.returncode == 0, done.stderr
    assert "kerasft explain --model=run" in (tmp_path / "run" / "report.html").read_text()
    done = command("explain", "--model=run", cwd=tmp_path, module="kerasft")
    assert (done.returncode, done.stderr) == (0, "")
    values = json.loads((tmp_path / "run" / "explain.json").read_text())
    _contract(values)
    assert values["check"]["n"] == 24 and len(values["classes"]) == 10
    assert {name for row in values["images"] for name in row.get("areas", {})} == set(values["methods"])
    areas = [row["areas"]["layer_cam"]["deletion"] for row in values["images"] if "areas" in row]
    assert np.mean(areas) == pytest.approx(values["check"]["layer_cam"]["against_random"]["deletion"]["maps"])
    assert (tmp_path / "run" / "explain.html").stat().st_size < 3e6
    again = command("explain", "--model=run", "--out=why", cwd=tmp_path, module="kerasft")
    assert again.returncode == 0
    other = json.loads((tmp_path / "why" / "explain.json").read_text())
    assert other["images"] == values["images"] and other["check"]["steps"] == faithfulness.STEPS


def test_two_commands_on_one_run_are_kept_apart(tmp_path):
    for name, content in (("metrics", {"export": {}}), ("config", {"data": "digits", "backbone": "auto"})):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    (tmp_path / "model.keras").touch()
    with run_lock.locked(tmp_path), pytest.raises(UserError, match="another run is working in it"):
        explain.explain(Config(), str(tmp_path))
    with pytest.raises(UserError, match="--model: must be the folder of a finished run"):
        explain.explain(Config(), str(tmp_path / "no run"))
    assert not (tmp_path / "no run").exists()
