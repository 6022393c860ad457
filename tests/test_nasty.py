"""Over 130 nasty files in one folder: each is judged by the audit, and by `predict` alike; nothing hangs, memory is bounded."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import exported
import nasty
import pytest
from conftest import ROOT, shared
from test_mistakes import printable

BOUND = 2**31  # bytes of memory above a run on a few plain images
SECONDS = 150  # for a folder

NAMES = [os.fsdecode(name) for name, _, _ in nasty.rows()]


class Done(NamedTuple):
    """How a command ended, and the most memory that it had, in bytes."""

    status: int
    out: str
    err: str
    peak: int


def run(cwd: Path, *flags: str) -> Done:
    """The command in a process of its own."""
    line = [sys.executable, "-m", "kerasft.run", *flags]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    # A process between, for the peak of children is that of all who were ever waited for.
    code = "import json, resource, subprocess, sys; done = subprocess.run(sys.argv[2:]).returncode; open(sys.argv[1], 'w').write(json.dumps([done, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]))"
    measured = cwd / "measured.json"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(measured), *line],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.communicate()
            pytest.fail(f"hangs for {SECONDS} s: {flags}")
    status, kilobytes = json.loads(measured.read_text())
    return Done(status, *(text.decode("utf-8", "backslashreplace") for text in (out, err)), 1024 * kilobytes)


class Audited(NamedTuple):
    """What the audit said, its findings by name, and what may be said."""

    done: Done
    findings: dict[str, dict]
    expected: dict[str, set[str]]
    root: Path
    base: int


def audit(cwd: Path, root: Path, tiny: str) -> tuple[Done, dict]:
    """The command up to the end of the audit: a folder with a bad file in it stops there."""
    flags = (f"--data=folder:{root}", f"--backbone={tiny}", "--image_size=32", "--bad_images=fail", "--run_dir=r")
    done = run(cwd, *flags, "--precision=float32", "--augment=none", "--notensorboard")
    return done, json.loads((cwd / "r" / "audit.json").read_text())


@pytest.fixture(scope="module")
def audited(tiny, tmp_path_factory) -> Audited:
    home = tmp_path_factory.mktemp("nasty")
    (home / "plain" / "a").mkdir(parents=True)
    for index in range(8):
        (home / "plain" / "a" / f"{index}.png").write_bytes(nasty.encoded("PNG", 900 + index))
    shutil.copytree(home / "plain" / "a", home / "set" / "plain")
    shutil.copytree(home / "plain" / "a", home / "plain" / "b")
    (home / "plain" / "b" / "bad.png").write_bytes(b"x")
    expected = nasty.make(home / "set" / "nasty")
    places = [home / "first", home / "second"]
    for place in places:
        place.mkdir()
    base, _ = audit(places[0], home / "plain", tiny)
    done, found = audit(places[1], home / "set", tiny)
    findings = {}
    for finding in found["findings"]:
        name = finding["path"].removeprefix("nasty/").rstrip("/")
        if findings.get(name, {}).get("verdict") != "reject":
            findings[name] = finding
    return Audited(done, findings, expected, home / "set", base.peak)


def test_there_are_enough():
    assert len(NAMES) == len(set(NAMES)) >= 60


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_the_audit(name, audited):
    found = audited.findings.get(name)
    assert (found["verdict"] if found else "ok") in audited.expected[name], found


def test_nothing_else_is_found(audited):
    assert set(audited.findings) <= set(NAMES)


@pytest.mark.parametrize("name", ["film.mp4", "film.jpg"])
def test_a_film_is_not_called_a_photograph(name, audited):
    assert not re.search("HEIC|AVIF", audited.findings[name]["detail"])


def test_it_ends_as_a_mistake_in_bounded_memory(audited):
    assert audited.done.status == 2
    assert "--bad_images" in audited.done.err
    assert "Traceback" not in audited.done.out + audited.done.err
    assert audited.done.peak < audited.base + BOUND, (audited.done.peak, audited.base)


def test_the_screen_stays_clean(audited):
    assert printable(audited.done.out) and printable(audited.done.err), ascii(audited.done.err)
    # What a decoder's library says of a file that it does not name.
    lines = [line for line in audited.done.err.splitlines() if "--bad_images" not in line]
    assert not [line for line in lines if re.search("JPEG|marker|input file|PNG|warning", line, re.IGNORECASE)]


@pytest.fixture(scope="module")
def predicted(audited, tiny, tmp_path_factory) -> tuple[Done, dict[str, dict]]:
    """Rows of the table, by the names of the files."""
    home = tmp_path_factory.mktemp("predicted")
    model = exported.saved_model("single_label", tiny, tmp_path_factory)
    done = run(home, "--mode=predict", f"--model={model}", f"--images={audited.root}", "--out=rows.jsonl")
    assert done.status == 0, done.err
    rows = [json.loads(line) for line in (home / "rows.jsonl").read_text().splitlines()]
    paths = sorted(os.path.join(parent, name) for parent, _, names in os.walk(audited.root) for name in names)
    assert len(rows) == len(paths)  # in this order, however a name is written
    return done, {os.path.relpath(path, audited.root / "nasty"): row for path, row in zip(paths, rows)}


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("folder.jpg", "linked_folder")], ids=ascii)
def test_predict_says_the_same(name, predicted, audited):
    said = audited.findings.get(name, {}).get("verdict", "ok")
    error = predicted[1][name].get("error")
    assert (error is not None) == (said == "reject"), (said, error)


def test_predict_in_bounded_memory(predicted, audited):
    assert "Traceback" not in predicted[0].out + predicted[0].err
    assert printable(predicted[0].out) and printable(predicted[0].err)
    assert predicted[0].peak < audited.base + BOUND, (predicted[0].peak, audited.base)


def test_predict_on_the_screen(audited, tiny, tmp_path_factory):
    model = exported.saved_model("single_label", tiny, tmp_path_factory)
    done = run(tmp_path_factory.mktemp("screen"), "--mode=predict", f"--model={model}", f"--images={audited.root}")
    assert done.status == 0, done.err
    assert printable(done.out) and printable(done.err), ascii(done.out)


def test_the_shared_dirty_set(tiny, tmp_path):
    """57 files that were gathered by somebody else, each with what is to be said of it."""
    shutil.copytree(shared("data", "dirty"), tmp_path / "dirty")
    for parent, _, _ in os.walk(tmp_path / "dirty"):
        os.chmod(parent, 0o755)
    (tmp_path / "dirty" / "train" / "empty_class").mkdir(exist_ok=True)
    done, found = audit(tmp_path, tmp_path / "dirty", tiny)
    with (tmp_path / "dirty" / "MANIFEST.csv").open(newline="", encoding="utf-8") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    assert len(rows) == 57
    rejected = {finding["path"] for finding in found["findings"] if finding["verdict"] == "reject"}
    named = {finding["path"] for finding in found["findings"]} | {finding["detail"] for finding in found["findings"]}
    wrong = [path for path, row in rows.items() if (path in rejected) != (row["expected"] == "reject")]
    assert wrong == ["train/ants/photo.tif"]  # named, as its row allows
    text = " ".join(named)
    assert all(name in text for name in ("dup_t", "conflict_label.jpg", "photo.tif"))
    assert done.status == 2
    assert "Traceback" not in done.out + done.err
