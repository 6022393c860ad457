"""The README's script from nothing to a server, run word for word (but for the environment, which is there)."""

import os
import re
import shutil
import socket
import subprocess
import sys

import pytest
from conftest import ROOT

SECTION = "## From nothing to a server"


def test_every_document_that_is_linked_is_there():
    for page in [ROOT / "README.md", *ROOT.glob("docs/*.md")]:
        for target in re.findall(r"\]\(((?!https?:)[\w./-]+)\)", page.read_text()):
            assert (page.parent / target).exists(), (page.name, target)


@pytest.mark.large
def test_from_nothing_to_a_server(tmp_path):
    pytest.importorskip("kserve")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = re.search(r"```bash\n(.*?)```", (ROOT / "README.md").read_text().partition(SECTION)[2], re.DOTALL)[1]
    quickstart = ".venv/bin/python -m kerasft.run --flagfile=pipelines/quickstart.flags"
    script = script.replace("make quickstart", quickstart).replace("8501", str(port))
    script = "\n".join(line for line in script.splitlines() if "pip install" not in line)
    if shutil.which("chromium") is None:
        script = "\n".join(line for line in script.splitlines() if not line.startswith("chromium"))
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / "pipelines").symlink_to(ROOT / "pipelines")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = done.stdout
    assert re.search(r'"classes":\["7"', said), said[-3000:]
    assert re.search(r'"version": ?"2"', said.rpartition("recorded:")[2]), said[-3000:]
    assert shutil.which("chromium") is None or (tmp_path / "page.png").stat().st_size > 1000
