"""`kerasft compress` on finished runs, and `--export` for other runtimes, through the real command."""

import importlib.util
import json
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import make_image

from kerasft.data.splits import Split
from kerasft.evaluation.scoring import Scorer
from kerasft.job import compress
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.storage import run_lock

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
    assert "In other formats" in (tmp_path / "run/report.html").read_text()
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
    artefacts = json.loads((tmp_path / "run/metrics.json").read_text())["artefacts"]
    assert artefacts["litert"]["path"] == rows[1]["path"] and artefacts.keys() == {"model.keras", "onnx", "litert"}
    assert rows[1]["path"] in (tmp_path / "run/report.html").read_text()
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
        compress.compress(Config(export="onnx"), str(tmp_path))


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
    monkeypatch.setattr(compress.console, "_console", compress.console._Console(width=80))
    row = {"accuracy": 0.9182, "loss": 0.2828, "agreement": 0.996, "bytes": 1_505_000, "published": True}
    row |= {"artefact": "litert(precision=float16)", "images_per_second": {"1": 31_280.0, "32": 33_428.0}}
    compress.console.print_table(compress._table([row], "accuracy"))
    said = capsys.readouterr().out
    assert all(number in said for number in ("0.9182", "0.2828", "99.6%", "1,505", "31,280", "33,428"))


@pytest.fixture
def finished(tmp_path):
    """A folder that looks like a finished run."""
    export = {"path": "saved_models/x/1"}
    metrics = {"task": "single_label", "classes": [], "image_size": 32, "framing": "crop", "export": export}
    for name, content in (("metrics", metrics), ("config", {"data": "digits", "backbone": "auto"})):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    (tmp_path / "model.keras").touch()
    return tmp_path


@needs_lite
def test_two_commands_on_one_run_are_kept_apart(finished):
    with run_lock.locked(finished), pytest.raises(UserError, match="another run is working in it"):
        compress.compress(Config(export="onnx"), str(finished))
    with pytest.raises(UserError, match="--model: must be the folder of a finished run"):
        compress.compress(Config(export="onnx"), str(finished / "no run"))
    assert not (finished / "no run").exists()


@needs_lite
@pytest.mark.parametrize(("given", "taken"), [({}, {}), ({"export_dir": "elsewhere"}, {"export_dir": "elsewhere"})])
def test_artefacts_stand_beside_the_export_of_the_run(finished, monkeypatch, given, taken):
    asked = {}
    monkeypatch.setattr(compress, "reopen", lambda run, **changes: asked.update(changes) or pytest.fail("far enough"))
    with pytest.raises(pytest.fail.Exception):
        compress.compress(Config(export="onnx", **given), str(finished))
    assert asked == {"allow_imports": (), "export": "onnx", "max_drop": Config().max_drop, **taken}


def test_the_interval_of_a_quantile_is_that_of_its_pinball_loss():
    labels = (10 * np.random.default_rng(0).normal(size=(300, 1))).astype(np.float32)
    scorer = Scorer("regression", labels, np.array([10.0]), error="pinball", quantile=0.9)
    splits = SimpleNamespace(test=Split(np.arange(300), labels, None, None), classes=("x",))
    high = np.full_like(labels, 12.816)
    interval = compress._interval(scorer, splits, {"per_target": {"x": {"deviation": 10.0}}})
    low, top = interval(high, scorer.score(high))
    assert low < scorer.score(high) < top < 3 < np.abs(labels - high).mean()
