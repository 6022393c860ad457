"""The versions of a model on disk: finds the one to serve, loads it and warms it up before the first request."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from kerasft import runtimes
from kerasft.export import model_folders
from kerasft.runtimes import LoadedModel
from kerasft.settings.errors import UserError

Fingerprint = tuple[tuple[str, int, int], ...]


class Version(NamedTuple):
    """A version in memory.

    Attributes:
        number: the folder's name, or 1.
        path: its model folder.
        fingerprint: names, sizes and times of the folder's files when it was loaded.
        model: what answers.
    """

    number: int
    path: Path
    fingerprint: Fingerprint
    model: LoadedModel


class Source(NamedTuple):
    """What `--model` and `--artefact` name: a folder of versions, or one model folder (`pinned`).

    Attributes:
        name: of the model.
        folder: of the versions, or the model folder.
        artefact: the subfolder of each version that is served; empty where the version is the model folder itself.
        pinned: whether there is only this one.
    """

    name: str
    folder: Path
    artefact: str
    pinned: bool


def find_source(model: str, artefact: str = "") -> Source:
    """Returns the Source of a `--model`.

    Raises:
        UserError: there is no model, or not that artefact, or there are several and none is named.
    """
    path, found = Path(model).resolve(), model_folders.newest(model, artefact).resolve()
    version = model_folders.version_folder(found)
    if model_folders.model_folder(path, artefact) is None:
        # Later versions must have the same artefact.
        return Source(path.name, path, found.name if version != found else "", pinned=False)
    return Source(version.parent.name if version.name.isdecimal() else path.name, found, "", pinned=True)


def find_newest(source: Source, failed: dict[Path, Fingerprint]) -> Path | None:
    """Returns the model folder of the highest version, or None. Skips those that failed to load and have not changed since.

    A version that cannot be read is one too: `load` says why, or it is in use already.

    Raises:
        OSError: the folder of the versions cannot be read.
    """
    paths = [source.folder] if source.pinned else [*filter(None, _candidates(source))]
    return next(
        (path for path in reversed(paths) if failed.get(path) is None or failed[path] != fingerprint(path)), None
    )


def _candidates(source: Source) -> Iterator[Path | None]:
    for version in model_folders.numbered(source.folder):
        found, unread = model_folders.model_folder(version, source.artefact), version / source.artefact
        yield unread if found is None and model_folders.read_error(unread) else found


def fingerprint(path: Path) -> Fingerprint:
    """Returns names, sizes and times of a folder's files. They change while a file is copied or replaced.

    The model card is left out: it is written when the version is in its place already.
    """
    try:
        files = [(file, file.stat()) for file in sorted(path.rglob("*")) if model_folders.MODEL_CARD not in file.name]
    # The folder is being removed.
    except OSError:
        return ()
    return tuple((file.relative_to(path).as_posix(), stat.st_size, stat.st_mtime_ns) for file, stat in files)


def load(path: Path, batch: int) -> Version:
    """Loads a version and runs it on one image and on a whole batch, so that the first request is as fast as any other.

    Raises:
        UserError: the version cannot be read or loaded, or its runtime is not installed.
    """
    if error := model_folders.read_error(path):
        raise UserError(f"--model: cannot be read ({error.strerror}). Received: '{path}'")
    fingerprint_before = fingerprint(path)
    model = runtimes.load(path, warm_up=(1, batch))
    name = model_folders.version_folder(path).name
    return Version(int(name) if name.isdecimal() else 1, path, fingerprint_before, model)
