"""The documents: what they link to and name is there, and the README's script from nothing to a server runs word for word."""

import os
import re
import shutil
import socket
import subprocess
import sys

import pytest
from conftest import ROOT

SECTION = "## From nothing to a server"


PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]


def _anchors(page):
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_document_that_is_linked_is_there(page):
    for target, anchor in re.findall(r"\]\(((?!https?:)[\w./-]+)(?:#([\w-]+))?\)", page.read_text()):
        assert (page.parent / target).exists(), target
        assert not anchor or anchor in _anchors(page.parent / target), (target, anchor)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_of_ours_that_is_named_is_there(page):
    for path in re.findall(
        r"(?<!/)\b((?:kerasft|benchmarks|tests|pipelines)/[\w/]+\.(?:py|flags))\b", page.read_text()
    ):
        assert (ROOT / path).is_file(), path


def test_images_are_small():
    for path in ROOT.glob("docs/images/*"):
        assert path.stat().st_size < 300_000, path.name


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
