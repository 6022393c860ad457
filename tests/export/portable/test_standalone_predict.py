"""The program that is shipped beside a portable model: bad files keep their places, and no other file from its answer."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from served import photo

from kerasft.export import standalone

RUNTIME = """
def load(folder):
    return lambda images: images.mean((1, 2))[:, :2]
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    """A portable model whose answers are the mean red and green."""
    for name in ("predict.py", "image_decoding.py"):
        shutil.copy(Path(standalone.__path__[0]) / name, tmp_path)
    (tmp_path / "runtime.py").write_text(RUNTIME)
    (tmp_path / "model.json").write_text(json.dumps({"task": "single_label", "image_size": 32, "framing": "crop"}))
    (tmp_path / "labels.txt").write_text("red\u2028ish\ngreen\n", encoding="utf-8")
    return tmp_path


def _run(folder: Path, *paths: str) -> subprocess.CompletedProcess:
    line = [sys.executable, "predict.py", *paths]
    return subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=60)


def test_a_bad_file_fails_none_but_itself(folder):
    (folder / "good.jpg").write_bytes(photo())
    (folder / "half.jpg").write_bytes(photo()[:300])
    (folder / "text.jpg").write_text("no image")
    names = ["good.jpg", "missing.jpg", "half.jpg", "text.jpg", ".", "good.jpg"]
    done = _run(folder, *names)
    rows = [json.loads(line) for line in done.stdout.removesuffix("\n").split("\n")]
    assert (done.returncode, done.stderr) == (1, "")
    assert [row["path"] for row in rows] == names
    assert rows[0] == rows[-1]
    assert set(rows[0]) == {"path", "label", "probabilities"}
    assert set(rows[0]["probabilities"]) == {"red\u2028ish", "green"}
    assert all(set(row) == {"path", "error"} and row["error"] for row in rows[1:-1])
    assert rows[1]["error"] == "No such file or directory"
    assert _run(folder, "good.jpg").returncode == 0


def test_without_a_file_its_use_is_said(folder):
    (folder / "runtime.py").write_text("def load(folder): raise SystemError")
    done = _run(folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "usage: python predict.py photo.jpg [photo.jpg ...]\n"
