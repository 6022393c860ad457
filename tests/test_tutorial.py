"""The tutorial's commands and the notebook's cells, run as they stand (but for the weights, which would be downloaded)."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys

import pytest
from conftest import ROOT

TUTORIAL = ROOT / "docs" / "tutorial.md"
NOTEBOOK = ROOT / "examples" / "digits.ipynb"
QUICK = "--weights=none --image_size=32"  # no download, and small images


def _commands() -> str:
    """The blocks that a reader types after the installation."""
    return "".join(re.findall(r"```bash\n(.*?)```", TUTORIAL.read_text(), re.DOTALL))


def test_the_tutorial_names_every_step():
    for words in ("train --preset=own_folder", "--dry_run", "backbones", "layers", "runs --out", "predict", "serve"):
        assert f"kerasft {words}" in _commands() or words in _commands()


@pytest.mark.large
def test_the_tutorial_works(photos, tmp_path):
    pytest.importorskip("kserve")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "new").mkdir()
    shutil.copy(photos / "disc" / "00.jpg", tmp_path / "new" / "a.jpg")
    script = _commands().replace("8501", str(port)).replace("--preset=own_folder", f"--preset=own_folder {QUICK}")
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "kerasft"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m kerasft "$@"\n')
    program.chmod(0o755)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{program.parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-e", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    said = done.stdout
    assert said.index("dry run: nothing is trained") < said.index("recorded: runs/first")
    assert "Written: runs.html" in said and (tmp_path / "runs.html").is_file()
    assert (tmp_path / "labels.csv").read_text() in said
    assert re.search(r'"classes": ?\["(disc|square)"', said), said[-2000:]


def _cells() -> list[str]:
    notebook = json.loads(NOTEBOOK.read_text())
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_is_stored_without_outputs():
    notebook = json.loads(NOTEBOOK.read_text())
    for cell in notebook["cells"]:
        assert not cell.get("outputs") and cell.get("execution_count") is None
    for source in _cells():
        compile(source, str(NOTEBOOK), "exec")


@pytest.mark.large
@pytest.mark.filterwarnings("default")  # of the notebook's own packages
def test_the_notebook_runs_and_shows_the_report(tmp_path, monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    shown = "".join(str(output.get("data", {}).get("text/html", "")) for output in outputs)
    assert "<iframe" in shown and "report" in shown
    assert float(re.search(r"test accuracy (\d\.\d+)", str(outputs))[1]) > 0.8
