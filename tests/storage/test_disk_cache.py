"""Where entries are kept: within a limit, whatever kinds there are."""

import os
import shutil
import threading
import time
from pathlib import Path

import pytest
from filelock import FileLock

from kerasft.settings.errors import UserError
from kerasft.storage import disk_cache
from kerasft.storage.disk_cache import ACTIVATIONS, IMAGES, DiskCache


def _entry(cache, name, kind, count, age=0):
    folder = cache.folder / name
    folder.mkdir(parents=True)
    (folder / kind).write_bytes(b"x" * count)
    if age:
        past = time.time() - age
        os.utime(folder / kind, (past, past))


def _left(cache):
    return sorted(file.parent.name for file in cache.folder.glob("*/*.bin"))


def test_images_take_half_at_most_and_activations_what_they_leave(tmp_path):
    cache = DiskCache(tmp_path, 1000, True)
    assert (disk_cache.available_bytes(cache, IMAGES), disk_cache.available_bytes(cache)) == (500, 1000)
    _entry(cache, "p", IMAGES, 300)
    assert (disk_cache.available_bytes(cache, IMAGES), disk_cache.available_bytes(cache)) == (500, 700)
    _entry(cache, "a", ACTIVATIONS, 400)
    assert disk_cache.available_bytes(cache) == 700


def test_a_nearly_full_disk_lets_less(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(1000, 900, 100))
    assert disk_cache.available_bytes(DiskCache(tmp_path, 1000, True)) == 90


def test_room_is_made_among_the_same_kind_the_oldest_first(tmp_path):
    cache = DiskCache(tmp_path, 1000, True)
    _entry(cache, "p", IMAGES, 300, age=500)
    for name, age in (("a", 400), ("b", 300), ("c", 200)):
        _entry(cache, name, ACTIVATIONS, 200, age)
    disk_cache.evict(cache, tmp_path / "new", 100, ACTIVATIONS)
    assert _left(cache) == ["a", "b", "c", "p"]
    disk_cache.evict(cache, tmp_path / "new", 301, ACTIVATIONS)
    assert _left(cache) == ["c", "p"]
    disk_cache.evict(cache, tmp_path / "new", 300, IMAGES)
    assert _left(cache) == ["c"]


def test_what_another_run_writes_is_left_alone(tmp_path):
    cache = DiskCache(tmp_path, 100, True)
    _entry(cache, "busy", ACTIVATIONS, 90, age=100)
    with disk_cache.locked(cache, "busy"):
        other = threading.Thread(target=disk_cache.evict, args=(cache, tmp_path / "new", 50, ACTIVATIONS))
        other.start()
        other.join()
    assert _left(cache) == ["busy"]
    disk_cache.evict(cache, tmp_path / "new", 50, ACTIVATIONS)
    assert _left(cache) == []


def test_what_another_run_removes_meanwhile_is_no_error(tmp_path, monkeypatch):
    cache, glob = DiskCache(tmp_path, 100, True), Path.glob
    for name, kind in (("a", ACTIVATIONS), ("b", ACTIVATIONS), ("p", IMAGES)):
        _entry(cache, name, kind, 40, age=100)

    def removed_once_listed(folder, pattern):
        found = list(glob(folder, pattern))
        for name in ("a", "p"):
            shutil.rmtree(tmp_path / name, ignore_errors=True)
        return found

    monkeypatch.setattr(Path, "glob", removed_once_listed)
    assert disk_cache.available_bytes(cache) == 100
    for name, kind in (("a", ACTIVATIONS), ("p", IMAGES)):
        _entry(cache, name, kind, 40)
    disk_cache.evict(cache, tmp_path / "new", 70, ACTIVATIONS)
    monkeypatch.undo()
    assert _left(cache) == []


def test_only_a_run_s_own_store_is_removed(tmp_path):
    for kept in (True, False):
        cache = DiskCache(tmp_path / str(kept), 100, kept)
        _entry(cache, "a", ACTIVATIONS, 10)
        disk_cache.remove(cache)
        assert cache.folder.exists() == kept


def test_a_broken_note_is_none(tmp_path):
    disk_cache.write_meta(tmp_path, {"rows": 3})
    assert disk_cache.read_meta(tmp_path) == {"rows": 3}
    (tmp_path / "about.json").write_text("{")
    assert disk_cache.read_meta(tmp_path) == {}


@pytest.mark.parametrize(("kept", "flag"), [(True, "--cache_dir"), (False, "--run_dir")])
def test_a_folder_that_cannot_be_made_is_a_message(tmp_path, kept, flag):
    (tmp_path / "file").touch()
    cache = DiskCache(tmp_path / "file" / "cache", 100, kept)
    for use in (disk_cache.available_bytes, lambda cache: disk_cache.locked(cache, "a").__enter__()):
        with pytest.raises(
            UserError, match=rf"{flag}: cannot be written \(Not a directory\)\. Received: '.*file/cache'"
        ):
            use(cache)


def test_an_entry_that_was_removed_while_it_was_waited_for_is_there(tmp_path, capsys):
    store = DiskCache(tmp_path, 10**9, True)
    (tmp_path / "entry").mkdir()
    held = threading.Event()

    def remove():
        with FileLock(tmp_path / "entry.lock"):
            held.set()
            time.sleep(0.2)
            shutil.rmtree(tmp_path / "entry")

    other = threading.Thread(target=remove)
    other.start()
    held.wait()
    with disk_cache.locked(store, "entry") as folder:
        assert folder.is_dir()
    other.join()
    assert "waiting for another run" in capsys.readouterr().out
