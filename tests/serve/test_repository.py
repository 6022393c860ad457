"""The task that watches the folder of versions: what cannot be read is said once, and the version in use stays."""

import asyncio
import errno
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("kserve")
from unreadable import closed

from kerasft.serve import repository, versions


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Versions 1 and 2 of an ONNX artefact that is empty; loading one takes no runtime."""
    for number in "12":
        _version(tmp_path, number)
    monkeypatch.setattr(repository, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(versions.runtimes, "load", lambda path, warm_up: SimpleNamespace(metadata={}))
    return tmp_path


def _version(folder: Path, number: str) -> None:
    (folder / number / "onnx").mkdir(parents=True)
    (folder / number / "onnx" / "model.onnx").touch()


def _watch(folder: Path, steps) -> list[int]:
    """Watches while the steps are done one after the other; returns the version that is in use after each."""
    source = versions.find_source(str(folder), "onnx")
    served = repository.VersionRepository("x", SimpleNamespace(limits=SimpleNamespace(max_batch_size=1)))
    served.put(repository.load_newest(source, 1))

    async def session() -> list[int]:
        watching, used = asyncio.create_task(repository.watch_folder(served, source)), []
        for step in steps:
            step()
            await asyncio.sleep(0.15)
            assert not watching.done(), watching.exception()
            used.append(served.current.number)
        watching.cancel()
        return used

    return asyncio.run(session())


@pytest.mark.parametrize("number", [errno.EACCES, errno.ESTALE, errno.EIO])
def test_what_cannot_be_read_leaves_the_version_in_use(folder, capsys, number):
    with pytest.MonkeyPatch.context() as patch:
        steps = [
            lambda: closed(patch, folder, number),
            patch.undo,
            lambda: closed(patch, folder / "2", number),
            patch.undo,
            lambda: closed(patch, folder / "2" / "onnx", number),
            # A new version takes over all the same.
            lambda: _version(folder, "3"),
        ]
        assert _watch(folder, steps) == [2, 2, 2, 2, 2, 3]
    said = capsys.readouterr().out
    assert said.count("cannot be read") == said.count("version 2 stays in use") == 3
    assert "version 3 is in use now, instead of version 2" in said


def test_an_unreadable_version_is_named_and_skipped_until_it_can_be_read(folder, capsys):
    with pytest.MonkeyPatch.context() as patch:
        closed(patch, folder / "2")
        assert _watch(folder, [lambda: None, patch.undo]) == [1, 2]
    said = capsys.readouterr().out
    assert said.count(f"{folder}/2/onnx cannot be loaded and is skipped: cannot be read (Permission denied)") == 2


def test_a_version_that_is_removed_gives_way_to_the_one_before(folder):
    assert _watch(folder, [lambda: shutil.rmtree(folder / "2"), lambda: shutil.rmtree(folder / "1")]) == [1, 1]
