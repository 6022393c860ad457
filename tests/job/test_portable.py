"""`--export` for other runtimes, through the real command, and `kerasft compress` on the finished run."""

import importlib.util
import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from conftest import make_image

from kerasft.export import model_folders
from kerasft.job import portable
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError

needs_lite = pytest.mark.skipif(importlib.util.find_spec("tf2onnx") is None, reason="the extra 'lite' is not installed")


@needs_lite
@pytest.mark.large
def test_a_run_exports_onnx_and_compress_adds_litert(photos, tiny, tmp_path, command):
    flags = [f"--data=folder:{photos}", f"--backbone={tiny}", "--phases=head", "--run_dir=run", "--augment=none"]
    done = command(*flags, "--export=savedmodel | onnx", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    row = json.loads((tmp_path / "run/metrics.json").read_text())["artefacts"]["onnx"]
    assert row["published"] and row["path"] == f"exports/{photos.name}/1/onnx"
    assert (tmp_path / row["path"] / "model.onnx").stat().st_size == row["bytes"]
    assert f"exported: {row['path']}" in done.stdout
    assert (tmp_path / f"exports/{photos.name}/1/MODEL_CARD.md").is_file()
    assert "Without TensorFlow" in (tmp_path / "run/report.html").read_text()
    done = command(
        "compress", "--model=run", "--export=litert | onnx", "--max_drop=0.01", cwd=tmp_path, module="kerasft"
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    rows = json.loads((tmp_path / "run/compress.json").read_text())["rows"]
    assert [row["artefact"] for row in rows] == ["savedmodel", "litert", "onnx"]
    assert all(row["published"] and row["accuracy"] == rows[0]["accuracy"] for row in rows)
    for row in rows:
        assert row["interval"][0] < row["accuracy"] <= row["interval"][1]
        assert row["startup_seconds"] > 0 and row["peak_rss_mb"] > 10 and set(row["images_per_second"]) == {"1", "32"}
    assert rows[0]["peak_rss_mb"] > 2 * rows[1]["peak_rss_mb"]
    assert "within one standard error" in done.stdout
    assert "What is worth its cost" in (tmp_path / "run/compress.html").read_text()
    assert not (tmp_path / "run/.compress").exists()


@needs_lite
def test_a_model_that_the_gate_refused_gets_no_portable_formats(tmp_path):
    export = {"path": "run/unpublished/x/1", "published": False}
    metrics = {"task": "single_label", "classes": [], "image_size": 32, "framing": "crop", "export": export}
    for name, content in (("metrics", metrics), ("config", {"data": "digits", "backbone": "auto"})):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    (tmp_path / "model.keras").write_bytes(b"")
    with pytest.raises(UserError, match=r"--model: its model is not published \(--gate\)"):
        portable.compress(Config(export="onnx"), str(tmp_path))
    assert portable.withheld(Config(export="savedmodel | onnx")) == {
        "onnx": {"artefact": "onnx", "published": False, "reason": "refused by --gate"}
    }


@needs_lite
@pytest.mark.large
def test_artefacts_of_targets_in_different_units_are_compared_in_deviations(tiny, tmp_path, command):
    """A width of about 1 and a mass of about 5,000: exact artefacts are published, and every score is in its interval."""
    rng, lines = np.random.default_rng(0), ["path,width,mass"]
    for index in range(80):
        make_image("disc", rng).save(tmp_path / f"{index}.png")
        lines.append(f"{index}.png,{rng.normal(1, 0.3)},{rng.normal(5000, 1000)}")
    (tmp_path / "t.csv").write_text("\n".join(lines))
    done = command("--data=csv:t.csv", f"--backbone={tiny}", "--phases=head", "--run_dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    flags = ["--model=run", "--export=onnx | litert | keras(precision=int8)", "--max_drop=1", "--notimings"]
    done = command("compress", *flags, cwd=tmp_path, module="kerasft")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "run/compress.json").read_text())
    assert found["score"] == "scaled_mae" and len(found["rows"]) == 4
    for row in found["rows"]:
        assert row["published"], row["reason"]
        assert row["interval"][0] < row["scaled_mae"] < row["interval"][1] and "mae" not in row
    assert found["rows"][1]["scaled_mae"] == pytest.approx(found["rows"][0]["scaled_mae"], abs=1e-3)
    assert "the best mean absolute error in deviations" in done.stdout


def _model(folder: Path, run: str, marker: str = "model.onnx") -> Path:
    """A model folder that says which run it is of."""
    about = folder / (model_folders.METADATA_FILE if marker == "saved_model.pb" else model_folders.ABOUT_FILE)
    about.parent.mkdir(parents=True)
    about.write_text(json.dumps({"run": run}))
    (folder / marker).touch()
    (folder / model_folders.LABELS_FILE).touch()
    return folder


def test_the_card_goes_into_the_folders_of_this_run_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved, exports = Path("saved_models/x/1"), Path("exports/x/1")
    metrics = {"export": {"path": saved.as_posix()}, "run": "a", "weights_sha256": "sum"}
    assert portable.export_folders(Config(), metrics) == []
    _model(saved, "b", "saved_model.pb")
    # What `compress` of an earlier version has written.
    _model(exports / "onnx", "sum")
    assert portable.export_folders(Config(), metrics) == [exports]
    assert portable.export_folders(Config(), metrics | {"run": "b"}) == [saved, exports]
    _model(exports / "litert", "b", "model.tflite")
    assert portable.export_folders(Config(), metrics) == []
    del metrics["run"]
    assert portable.export_folders(Config(), metrics) == [saved, exports]


@pytest.mark.parametrize(
    ("path", "export_dir", "found"),
    [
        ("saved_models/x/3", "saved_models", "exports/x/3"),
        ("elsewhere/x/3", "saved_models", "exports/x/3"),
        # Not beside those of `saved_models/x/3`, which is another network.
        ("saved_models/slim/x/3", "saved_models", "saved_models/exports/x/3"),
        ("saved_models/slim/x/3", "saved_models/slim", "saved_models/exports/x/3"),
    ],
)
def test_where_the_artefacts_of_a_saved_model_are(path, export_dir, found):
    assert portable._exports(Config(export_dir=export_dir), Path(path)) == Path(found)


@pytest.mark.parametrize("there", ["saved_models/x/1", "exports/x/1/litert"])
def test_artefacts_are_not_written_beside_those_of_another_run(tmp_path, monkeypatch, there):
    monkeypatch.chdir(tmp_path)
    metrics = {"export": {"path": "saved_models/x/1"}, "run": "a", "weights_sha256": "sum"}
    portable._refuse_other_runs(Config(), metrics)
    _model(tmp_path / there, "b", "saved_model.pb" if "saved" in there else "model.tflite")
    with pytest.raises(
        UserError, match=rf"--export_dir: version 1 is of another run there \('{there}'\); .* Received:"
    ):
        portable._refuse_other_runs(Config(), metrics)
    portable._refuse_other_runs(Config(export_dir="other/saved_models"), metrics)


def test_the_command_that_trains_for_eight_bits_is_that_of_the_run_with_one_phase_more():
    config = Config(phases="head | all(epochs=2)", export="litert(precision=int8)")
    found = shlex.split(portable._retrain_command(config, Path("runs/a b")))
    assert found[:3] == ["kerasft", "train", "--flagfile=runs/a b/run.flags"]
    assert found[3:5] == ["--phases=head | all(epochs=2) | quantised", "--export=litert(precision=int8)"]
    assert found[5:] == ["--run_dir=runs/a b-quantised"]
    assert portable._retrain_command(Config(phases="auto | quantised"), Path("run")) == ""


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--model=run", "--export=onnx"), "--model: must be the folder of a finished run"),
        (("--model=run",), "--export: must name a format for another runtime: keras, litert, onnx, openvino"),
    ],
)
def test_compress_says_what_it_needs(tmp_path, command, flags, says):
    done = command("compress", *flags, cwd=tmp_path, module="kerasft")
    assert done.returncode == 2 and says.split(":")[0] in done.stderr
    if importlib.util.find_spec("tf2onnx"):
        assert says in done.stderr


def test_no_number_of_the_table_is_cut_in_two_on_80_columns(capsys, monkeypatch):
    monkeypatch.setattr(portable.console, "_console", portable.console._Console(width=80))
    row = {"accuracy": 0.9182, "loss": 0.2828, "agreement": 0.996, "bytes": 1_505_000, "published": True}
    row |= {"artefact": "litert(precision=float16)", "images_per_second": {"1": 31_280.0, "32": 33_428.0}}
    portable.console.print_table(portable._table([row], "accuracy"))
    said = capsys.readouterr().out
    assert all(number in said for number in ("0.9182", "0.2828", "99.6%", "1,505", "31,280", "33,428"))
