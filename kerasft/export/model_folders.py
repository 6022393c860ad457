"""Finds exported models on disk and reads what they say of themselves. No runtime is imported for it.

A model folder holds one model: a SavedModel, or an artefact for another runtime. It is `saved_models/NAME/VERSION` or
`exports/NAME/VERSION/ARTEFACT` (`portable_folder`); copied elsewhere, it may be any folder, also `NAME/VERSION` itself.
"""

import json
import os
from pathlib import Path

from kerasft.settings.errors import UserError, did_you_mean, one_of

SAVED_MODEL_FILE = "saved_model.pb"

# The runtime of a model folder, and the file that tells it, as a pattern.
MARKERS = {
    "savedmodel": SAVED_MODEL_FILE,
    "onnx": "model.onnx",
    "litert": "model.tflite",
    "openvino": "model.xml",
    "keras": "model.q[48].npz",
}

# Beside a SavedModel, where TensorFlow Serving wants extra files.
METADATA_FILE = Path("assets.extra", "kerasft.json")

# In the folder of an artefact for another runtime.
ABOUT_FILE, LABELS_FILE = "model.json", "labels.txt"

# What `--model` of `predict` and `serve` may be.
MODEL_RULE = "must be a SavedModel, an artefact of --export, or a folder of numbered ones"

# It is written when the model is in its place already.
MODEL_CARD = "MODEL_CARD.md"

# Portable artefacts are in a folder of this name: next to `saved_models`, and inside any other `--export_dir`.
SAVED_MODELS, EXPORTS = "saved_models", "exports"


def runtime_of(folder: Path) -> str | None:
    """Returns the runtime of a model folder, a key of `MARKERS`; None for another folder, or one that cannot be read."""
    try:
        return next((name for name, file in MARKERS.items() if any(map(Path.is_file, folder.glob(file)))), None)
    except OSError:
        return None


def artefacts(version: Path) -> list[str]:
    """Returns the names of the subfolders that hold an artefact, such as `onnx`; none where it cannot be read."""
    try:
        names = sorted(path.name for path in version.iterdir())
    # It is no folder, it is being removed, or it may not be read.
    except OSError:
        return []
    # A number is a version. A draft that is being proven has a name that begins with a dot.
    names = [name for name in names if not (name.isdecimal() or name.startswith("."))]
    return [name for name in names if runtime_of(version / name)]


def read_error(folder: Path) -> OSError | None:
    """Returns why a folder or one of the files in it cannot be read; None where they can be, or it is not there."""
    try:
        for path in folder.iterdir():
            path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return error
    return None


def model_folder(version: Path, artefact: str = "") -> Path | None:
    """Returns the model folder of a version: itself, or that of an artefact in it; None if there is none.

    Args:
        artefact: the name of the subfolder; empty takes the only one.
    """
    if runtime_of(version):
        return version if artefact in ("", version.name) else None
    found = [name for name in artefacts(version) if artefact in ("", name)]
    return version / found[0] if len(found) == 1 else None


def versions(folder: Path, artefact: str = "") -> list[Path]:
    """Returns the model folders of the numbered folders, oldest first; arguments as `model_folder`.

    A version without that artefact is left out, and one that cannot be read.

    Raises:
        OSError: the folder itself cannot be read.
    """
    return [found for path in numbered(folder) if (found := model_folder(path, artefact))]


def numbered(folder: Path) -> list[Path]:
    """Returns what has a number as its name in a folder, lowest first; nothing where the folder is not there.

    Raises:
        OSError: the folder cannot be read.
    """
    found = [path for path in folder.iterdir() if path.name.isdecimal()] if folder.is_dir() else []
    return sorted(found, key=lambda path: int(path.name))


def newest(model: str, artefact: str = "") -> Path:
    """Returns the model folder that `--model` names: itself, or that of the highest version below it.

    Args:
        model: as `--model`.
        artefact: as `--artefact`.

    Raises:
        UserError: there is no model, or not that artefact, or there are several and none is named, or it cannot be read.
    """
    path = Path(model)
    try:
        if not model or not path.is_dir():
            raise UserError(f"--model: {find_fault(model)}. Received: {model!r}")
        folders = (path, *numbered(path))
    except OSError as error:
        raise UserError(f"--model: cannot be read ({error.strerror}). Received: {model!r}") from error
    names = sorted({name for version in folders for name in artefacts(version)})
    if not runtime_of(path) and not artefact and len(names) > 1:
        raise UserError(f"--artefact: '{model}' has several. It must be one of {one_of(names)}. Received: ''")
    found = model_folder(path, artefact) or (versions(path, artefact) or [None])[-1]
    if found is None and artefact and (names or runtime_of(path) or len(folders) > 1):
        choices = f"one of {one_of(names)}" if names else f"empty, for '{model}' has none"
        raise UserError(f"--artefact: must be {choices}. Received: {artefact!r}")
    if found is None:
        raise UserError(f"--model: {find_fault(model)}. Received: {model!r}")
    return found


def find_fault(model: str) -> str:
    """Returns the rule for a `--model` of `predict` or `serve` that names no model, with what it may have meant.

    Args:
        model: as `--model`.
    """
    path = Path(model)
    if not model:
        return "the folder of an exported model is needed, such as saved_models/NAME"
    if not os.path.exists(path):
        # A version is told which others there are.
        names = [other.name for other in _children(path.parent)]
        near = [name for name in names if name.isdecimal()] if path.name.isdecimal() else []
        return "there is no such folder" + (
            f"; there are: {', '.join(near)}" if near else did_you_mean(path.name, names)
        )
    run = path.parent if path.is_file() else path
    try:
        exported = json.loads((run / "metrics.json").read_text())["export"]["path"]
    except (OSError, ValueError, TypeError, KeyError):
        exported = None
    if exported:
        return f"{MODEL_RULE}; this is {'in ' * path.is_file()}a run, and its export is {exported}"
    models = [one for one in _children(path) if _holds_model(one)]
    return MODEL_RULE + (f"; in it: {', '.join(map(str, models))}" if models else "")


def _children(folder: Path) -> list[Path]:
    """Returns what is in a folder, by name; nothing where it cannot be read."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _holds_model(folder: Path) -> bool:
    try:
        return bool(model_folder(folder) or versions(folder))
    except OSError:
        return False


def portable_folder(folder: Path) -> Path:
    """Returns the folder of the portable artefacts of the SavedModels in a folder.

    Those of `saved_models/NAME` are in `exports/NAME`, and those of `X/NAME` in `X/exports/NAME`: two export folders side by side
    have the same version numbers, but no folder in common.
    """
    root = folder.parent
    return (root.parent if root.name == SAVED_MODELS else root) / EXPORTS / folder.name


def next_version(folder: Path) -> Path:
    """Returns the path of the next version of `saved_models/NAME`: above every number there and in its `portable_folder`.

    Where a SavedModel was removed to go back, its portable artefacts keep its number.

    Raises:
        OSError: a folder cannot be read.
    """
    taken = [int(path.name) for parent in (folder, portable_folder(folder)) for path in numbered(parent)]
    return folder / str(max(taken, default=0) + 1)


def version_folder(folder: Path) -> Path:
    """Returns the folder of the version that a model folder belongs to: itself, or the one above an artefact."""
    return folder.parent if folder.parent.name.isdecimal() and not folder.name.isdecimal() else folder


def read_metadata(folder: Path) -> dict:
    """Returns what a model folder says of itself: `run`, `task`, `classes`, `image_size`, `framing`; {} if nothing."""
    try:
        if (folder / METADATA_FILE).is_file():
            return json.loads((folder / METADATA_FILE).read_text())
        about = json.loads((folder / ABOUT_FILE).read_text(encoding="utf-8"))
        # A name may have separators at which `splitlines` would split.
        return {**about, "classes": (folder / LABELS_FILE).read_text(encoding="utf-8").removesuffix("\n").split("\n")}
    except (OSError, ValueError, TypeError):
        return {}


def of_other_runs(version: Path, metrics: dict) -> list[Path]:
    """Returns the model folders of a version that say that they are of another run: its number was given again.

    Args:
        version: as `export` of the metrics names it, or the folder of its portable artefacts.
        metrics: the `metrics.json` of the run.
    """
    # Artefacts of earlier versions have the digest of the weights. Runs of earlier versions do not know what theirs have.
    own = (metrics.get("run"), metrics.get("weights_sha256"))
    folders = [version, *(version / name for name in artefacts(version))] if own[0] else []
    return [folder for folder in folders if read_metadata(folder).get("run", own[0]) not in own]
