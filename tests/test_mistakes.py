"""Mistakes and hostile inputs at the command: the documented status, a message that names what is wrong, no traceback."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import unicodedata
from pathlib import Path

import exported
import forks
import mistakes
import pytest
from conftest import ROOT

LONGEST = 4000  # letters of a message


@pytest.fixture(scope="module")
def server():
    with forks.server() as process:
        yield process


@pytest.fixture(scope="module")
def places(photos, tiny, flat, tmp_path_factory) -> dict[str, str]:
    """What stands for the words in braces."""
    home = tmp_path_factory.mktemp("places")
    rows = [f"{path},{path.parent.name}" for path in sorted(photos.rglob("*.jpg"))]
    (home / "table.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    model = exported.saved_model("single_label", tiny, tmp_path_factory)
    made = {"photos": photos, "tiny": tiny, "flat": flat, "table": home / "table.csv", "model": model}
    return {**{name: str(path) for name, path in made.items()}, **_networks(home)}


def _networks(home: Path) -> dict[str, str]:
    """Saved networks that are not flat, and a SavedModel that kerasft has not made."""
    import keras
    import tensorflow as tf

    layers = keras.layers
    inner = keras.Sequential([keras.Input((32, 32, 3)), layers.Conv2D(4, 3, strides=8), layers.ReLU()])
    inputs = keras.Input((32, 32, 3))
    patches = layers.Reshape((16, 8))(layers.Conv2D(8, 8, strides=8)(inputs))
    other = keras.Input((32, 32, 3))
    both = layers.Concatenate()([layers.Conv2D(4, 8, strides=8)(inputs), layers.Conv2D(4, 8, strides=8)(other)])
    networks = {
        "nested": keras.Model(inputs, layers.Conv2D(8, 2)(inner(inputs))),
        "sequential": keras.Sequential([keras.Input((32, 32, 3)), layers.Conv2D(8, 3, strides=4)]),
        "tokens": keras.Model(inputs, patches),
        "two_inputs": keras.Model([inputs, other], both),
    }
    for name, network in networks.items():
        network.save(home / f"{name}.keras")
    plain = tf.Module()
    plain.twice = tf.function(lambda x: 2 * x, input_signature=[tf.TensorSpec([None], tf.float32)])
    tf.saved_model.save(plain, str(home / "foreign" / "1"))
    return {**{name: str(home / f"{name}.keras") for name in networks}, "foreign": str(home / "foreign")}


def filled(text: str, places: dict[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: places[found[1]], text)


def printable(text: str) -> bool:
    """Whether nothing in it moves the cursor, turns the direction of writing, or begins an escape."""
    turning = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    return not any(
        letter in turning or (unicodedata.category(letter) == "Cc" and letter not in "\n") for letter in text
    )


@pytest.mark.parametrize(
    "row", [pytest.param(row, id=row.name, marks=[pytest.mark.large] * row.large) for row in mistakes.ROWS]
)
def test_a_mistake(row, server, places, tmp_path):
    cwd = tmp_path / "here"
    cwd.mkdir()
    if row.make:
        row.make(cwd, places)
    flags = [filled(flag, places) for flag in row.flags]
    done = forks.run(server, flags, cwd, **row.options)
    err = forks.without_gpu_notices(done.err)
    assert done.status in row.status, f"status {done.status}:\n{err[-1500:]}"
    assert "Traceback" not in done.out + err, err[-1500:]
    assert printable(done.out) and printable(err), ascii(done.out[-500:] + err[-500:])
    assert not list(cwd.rglob("PWNED"))
    if done.status:
        assert len(err) < LONGEST, err[:500]
        for word in row.words:
            assert word.casefold() in err.casefold(), f"{word!r} is missing:\n{err}"
        assert not [word for word in row.absent if word.casefold() in err.casefold()], err
        if row.received:
            assert re.search(r"Received: .*\n\Z", err), err


def test_names_are_told_apart():
    names = [row.name for row in mistakes.ROWS]
    assert len(names) == len(set(names))
    assert len(names) >= 120


def test_every_flag_is_got_wrong_once():
    from kerasft.settings import command_flags
    from kerasft.settings.config import FIELDS

    given = {flag.partition("=")[0].lstrip("-") for row in mistakes.ROWS for flag in row.flags}
    assert {*FIELDS, *command_flags.COMMAND} <= given


SAMPLE = ("unknown_flag", "escape_in_value", "flagfile_not_utf8", "imports_by_name_of_flagfile", "optimizer_misspelt")
SAMPLE += ("table_not_utf8", "run_in_a_file", "model_graph_torn", "port_of_99999", "objective_misspelt")


@pytest.mark.large
@pytest.mark.parametrize("name", SAMPLE)
def test_a_fork_says_what_the_command_says(name, server, places, tmp_path):
    row = next(row for row in mistakes.ROWS if row.name == name)
    cwd = tmp_path / "here"
    cwd.mkdir()
    if row.make:
        row.make(cwd, places)
    flags = [filled(flag, places) for flag in row.flags]
    forked = forks.run(server, flags, cwd)
    real = _real(flags, cwd)
    assert (forked.status, forks.without_gpu_notices(forked.err)) == (real.returncode, real.stderr)


def _real(flags: list[str], cwd: Path, **given) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120", **given.pop("env", {})}
    line = [sys.executable, "-m", "kerasft.run", *flags]
    return subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, **given)


@pytest.mark.parametrize("reader", ["head -1", "true"])
def test_help_into_a_pipe_that_closes(reader, tmp_path):
    line = f"set -o pipefail; {sys.executable} -m kerasft.run --help | {reader}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", line], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert "Traceback" not in done.stderr and "BrokenPipe" not in done.stderr, done.stderr
    assert done.returncode in (0, 3, 141), done  # stopped, or 128 + SIGPIPE as of any program


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_help_onto_a_full_disk(tmp_path):
    line = [sys.executable, "-m", "kerasft.run", "--help"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            line, cwd=tmp_path, env=environment, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60
        )
    assert done.returncode, "not all was printed, and it passes for done"
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr, done.stderr


@pytest.mark.large
def test_a_run_whose_reader_goes_away(places, tmp_path):
    flags = [filled(flag, places) for flag in mistakes.MADE]
    line = " ".join(f"'{flag}'" for flag in flags)
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -u -m kerasft.run {line} | head -1"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize("port", ["taken"])
def test_a_port_that_is_taken(port, server, places, tmp_path):
    cwd = tmp_path / "here"
    cwd.mkdir()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        flags = ["--mode=serve", f"--model={places['model']}", f"--port={other.getsockname()[1]}"]
        done = forks.run(server, flags, cwd)
    assert done.status == 2
    assert "--port" in done.err and "Received: '127.0.0.1:" in done.err


@pytest.mark.large
def test_a_second_run_on_one_folder(places, tmp_path):
    # Of fewer images nothing is trained: validation could not judge it.
    flags = [filled(flag, places) for flag in ("--data=generated:2x40", *mistakes.SMALL)]
    flags += ["--run_dir=r", "--phases=all(epochs=100000)"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-m", "kerasft.run", *flags]
    with subprocess.Popen(line, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL) as first:
        try:
            until = time.monotonic() + 60
            while not (tmp_path / "r" / "history.jsonl").exists() and time.monotonic() < until:
                time.sleep(0.05)
            second = _real(flags, tmp_path)
            assert first.poll() is None
        finally:
            first.kill()
    assert second.returncode == 2, second.stdout + second.stderr
    assert "--run_dir" in second.stderr and str(first.pid) in second.stderr, second.stderr
    assert "Traceback" not in second.stderr


@pytest.fixture
def small_disk(tmp_path):
    """A file system of this many kilobytes at a path; unmounted afterwards."""
    mounted = []

    def mount(path: Path, size: int) -> Path:
        path.mkdir(parents=True)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", path], capture_output=True)
        if done.returncode:
            pytest.skip("needs the right to mount")
        mounted.append(path)
        return path

    yield mount
    for path in mounted:
        subprocess.run(["umount", "-l", path], check=True)


@pytest.mark.large
@pytest.mark.parametrize(("flag", "size"), [("run_dir", 16), ("run_dir", 200), ("export_dir", 40), ("cache_dir", 8)])
def test_a_full_disk(flag, size, server, places, small_disk, tmp_path):
    cwd = tmp_path / "here"
    cwd.mkdir()
    place = small_disk(cwd / "disk", size)
    flags = [filled(item, places) for item in mistakes.MADE] + [f"--{flag}={place / 'x'}"]
    flags += ["--keep_cache"] if flag == "cache_dir" else []
    done = forks.run(server, flags, cwd)
    err = forks.without_gpu_notices(done.err)
    assert done.status == 2, done.out + err
    assert "Traceback" not in err
    assert f"--{flag}" in err and "Received: " in err, err
    subprocess.run(["mount", "-o", "remount,size=200m", place], check=True)
    again = forks.run(server, flags, cwd)
    assert again.status == 0, again.out + again.err


@pytest.mark.large
def test_a_full_disk_under_a_table(server, places, small_disk, tmp_path):
    cwd = tmp_path / "here"
    cwd.mkdir()
    place = small_disk(cwd / "disk", 4)
    flags = [filled(item, places) for item in mistakes.PREDICT] + [f"--out={place / 'x.csv'}"]
    done = forks.run(server, flags, cwd)
    assert done.status == 2, done.err
    assert "--out" in done.err and "Traceback" not in done.err


@pytest.mark.large
def test_an_image_that_goes_away_after_the_audit(places, tmp_path):
    """The image is read again where images are not kept, and for the proof of the export."""
    shutil.copytree(places["photos"], tmp_path / "photos")
    flags = [filled(flag, places) for flag in mistakes.SMALL]
    flags += ["--data=folder:photos", "--run_dir=r", "--phases=all(epochs=30)"]
    line = [sys.executable, "-m", "kerasft.run", *flags]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        line, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        until = time.monotonic() + 60
        while not (tmp_path / "r" / "history.jsonl").exists() and time.monotonic() < until:
            time.sleep(0.02)
        shutil.rmtree(tmp_path / "photos" / "disc")
        _, err = process.communicate(timeout=120)
    assert process.returncode in (0, 2), err
    assert "Traceback" not in err, err
    if process.returncode:
        assert re.search(r"disc/\d\d\.jpg", err), err
