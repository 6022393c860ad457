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
from kerasft.settings.errors import UserError


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


def test_damage_to_the_version_in_use_leaves_it_in_use(folder, monkeypatch, capsys):
    """It is whole in memory. An older one does not take over, and a whole newer one does."""

    def load(path, warm_up):
        if (path / "model.onnx").read_bytes():
            raise UserError(f"--model: is damaged. Received: '{path}'")
        return SimpleNamespace(metadata={})

    def put(data):
        # At once, for a file that is seen half written counts as another one.
        (folder.parent / "new").write_bytes(data)
        (folder.parent / "new").replace(folder / "2" / "onnx" / "model.onnx")

    monkeypatch.setattr(versions.runtimes, "load", load)
    steps = [
        lambda: put(b"damage"),
        lambda: shutil.rmtree(folder / "1"),
        lambda: _version(folder, "1"),
        lambda: put(b""),
        lambda: put(b"damage again"),
        lambda: _version(folder, "3"),
        lambda: shutil.rmtree(folder / "3"),
    ]
    assert _watch(folder, steps) == [2, 2, 2, 2, 2, 3, 1]
    said = capsys.readouterr().out
    assert said.count("2/onnx was changed and cannot be loaded (is damaged): version 2 stays in use") == 2
    assert "any more" not in said


def test_a_folder_of_nothing_but_damage_is_called_so(folder, monkeypatch, capsys):
    def load(path, warm_up):
        if "3" in path.parts:
            raise UserError("--model: is damaged")
        return SimpleNamespace(metadata={})

    def remove():
        for number in "12":
            shutil.rmtree(folder / number)

    monkeypatch.setattr(versions.runtimes, "load", load)
    assert _watch(folder, [lambda: _version(folder, "3"), remove]) == [2, 2]
    assert f"{folder} has no version that can be loaded: version 2 stays in use" in capsys.readouterr().out


def test_a_version_that_is_removed_gives_way_to_the_one_before(folder):
    assert _watch(folder, [lambda: shutil.rmtree(folder / "2"), lambda: shutil.rmtree(folder / "1")]) == [1, 1]
