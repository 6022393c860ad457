"""The finish of a run, from the scores to metrics.json: done as a whole, or done by the next start."""

import json
from pathlib import Path

import numpy as np
import pytest

from kerasft import report
from kerasft.job import run_summary, train
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.storage import run_folder


def data(root: Path, kind: str) -> Path:
    """A table whose test split lacks a label, or has one value of a target only."""
    from conftest import write

    rows = ["path,label,split"] if kind == "labels" else ["path,angle,height,split"]
    for index in range(30):
        part = "train" if index < 18 else "val" if index < 24 else "test"
        write(root / f"{index}.png", ("disc", "square")[index % 2], index)
        names = ["disc", "square"][index % 2] + ("|rare" if index % 3 == 0 and part != "test" else "")
        number = f"{index % 5},{5 if part == 'test' else index % 7}"
        rows.append(f"{index}.png,{names if kind == 'labels' else number},{part}")
    (root / "t.csv").write_text("\n".join(rows) + "\n")
    return root / "t.csv"


@pytest.mark.parametrize("kind", ["labels", pytest.param("constant", marks=pytest.mark.large)])
def test_a_finish_that_breaks_is_done_by_the_next_start(kind, tiny, tmp_path, monkeypatch, capsys):
    """And figures that cannot be measured break none."""
    monkeypatch.chdir(tmp_path)
    config = Config(data=f"csv:{data(tmp_path, kind)}", backbone=tiny, phases="head", run_dir="run", augment="none")

    def breaks(*_):
        raise RuntimeError("the report")

    with monkeypatch.context() as patch:
        patch.setattr(report, "write_report", breaks)
        with pytest.raises(RuntimeError, match="the report"):
            train.train(config)
    assert not (tmp_path / "run" / "metrics.json").exists()
    done = train.train(config)
    test = done.metrics["test"]
    assert (
        test["per_class"]["rare"]["average_precision"] if kind == "labels" else test["per_target"]["height"]["r2"]
    ) is None
    text = capsys.readouterr().out
    assert "nothing to do" not in text and "with report.html" in text
    # All labels of an image are compared.
    assert ("same labels, probabilities within" in text) == (kind == "labels")
    assert ("label_agreement" in done.metrics["export"]) == (kind == "labels")
    assert [path.name for path in (tmp_path / "saved_models" / "t").iterdir()] == ["1"]
    assert done.metrics == json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert not list((tmp_path / "run").glob("checkpoint*"))

    # What is deleted later is written again, or is named.
    first = (tmp_path / "run" / "report.html").read_text()
    (tmp_path / "run" / "report.html").unlink()
    train.train(config)
    assert "had no report.html: it is written now" in capsys.readouterr().out
    again = (tmp_path / "run" / "report.html").read_text()
    assert len(again) == pytest.approx(len(first), rel=0.2)
    (tmp_path / "saved_models" / "t" / "1" / "saved_model.pb").unlink()
    train.train(config)
    assert (
        f"{Path('saved_models/t/1/saved_model.pb')} is missing (--noresume runs everything again)"
        in capsys.readouterr().out
    )
    assert [path.name for path in (tmp_path / "saved_models" / "t").iterdir()] == ["1"]


def test_a_refused_config_leaves_no_folder_of_exports(photos, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = Config(data=f"folder:{photos}", backbone=tiny, phases="top(unfreeze=nowhere)", run_dir="run")
    with pytest.raises(UserError, match="--phases"):
        train.train(config)
    assert not (tmp_path / "saved_models").exists()


def test_a_folder_is_tried_and_taken_away_again(tmp_path, monkeypatch):
    run_folder.check_can_create(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "c").mkdir()
    run_folder.check_can_create(tmp_path / "c")
    assert [path.name for path in tmp_path.iterdir()] == ["c"]
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError):
        run_folder.check_can_create(tmp_path / "file" / "d")
    # Root may write everywhere, so the answer of the system is replaced.
    monkeypatch.setattr(run_folder.os, "access", lambda path, mode: False)
    with pytest.raises(PermissionError) as caught:
        run_folder.check_can_create(tmp_path / "c")
    assert caught.value.filename == str(tmp_path / "c")


def test_the_images_of_an_old_run_are_found_by_name(photos, tmp_path):
    from kerasft.data import sources

    listing = sources.load(Config(data=f"folder:{photos}"))
    np.savez(tmp_path / "predictions.npz", ids=np.array(["disc/03.jpg", "gone.jpg"]))
    of_test, _ = run_summary.page_images(tmp_path, {"image_size": 16}, listing)
    found = of_test(np.array([0, 1]))
    assert found.shape == (2, 16, 16, 3) and found.dtype == np.uint8
    assert found[0].std() > 1 and (found[1] == 128).all()
