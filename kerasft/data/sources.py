"""Sources: what `--data` names, as a Listing of examples. Nothing is decoded here."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kerasft.errors import UserError, did_you_mean, one_of

SPLITS = ("train", "val", "test")
_FOLDER_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
_SYSTEM_FILES = {"thumbs.db", "desktop.ini", "icon\r"}


class Finding(NamedTuple):
    """Something about one file that the user should know; `reject` means that it is not used."""

    path: str
    kind: str
    verdict: str
    detail: str


@dataclass(frozen=True)
class Listing:
    """Examples in one fixed order.

    Attributes:
        name: short name of the data, for folders.
        ids: str [N], path relative to the source, with forward slashes.
        labels: int32 [N], index into `classes`.
        parts: str [N], `train`, `val`, `test`, or empty where the source says nothing.
        classes: label names, in the order of the labels.
        read: index to encoded bytes.
        findings: what was passed over while listing.
        digests: str [N], SHA-256 of each file's bytes; empty before the audit.
    """

    name: str
    ids: np.ndarray
    labels: np.ndarray
    parts: np.ndarray
    classes: tuple[str, ...]
    read: Callable[[int], bytes]
    findings: tuple[Finding, ...] = ()
    digests: np.ndarray | None = None

    def audited(self, good: np.ndarray, digests: np.ndarray, findings: tuple[Finding, ...]) -> "Listing":
        """The examples where bool [N] `good` holds, with their digests, and findings added."""
        rows = np.flatnonzero(good)
        read = self.read
        return replace(
            self,
            ids=self.ids[rows],
            labels=self.labels[rows],
            parts=self.parts[rows],
            read=lambda i: read(int(rows[i])),
            findings=self.findings + findings,
            digests=digests[rows],
        )


def load(data: str) -> Listing:
    """Lists the examples of a `--data` value.

    Raises:
        UserError: an unknown kind of source, a folder that is missing or holds fewer than two classes.
    """
    kind, _, argument = data.partition(":")
    sources = {"digits": _digits, "folder": _folder}
    if kind not in sources:
        names = ("digits", "folder:DIR")
        raise UserError(f"--data: must be one of {one_of(names)}{did_you_mean(kind, sources)}. Received: {data!r}")
    return sources[kind](argument)


def _digits(argument: str) -> Listing:
    """scikit-learn's 1,797 handwritten digits of 8x8 pixels (UCI Optical Recognition of Handwritten Digits)."""
    if argument:
        raise UserError(f"--data: digits takes no argument. Received: 'digits:{argument}'")
    import io

    from PIL import Image
    from sklearn.datasets import load_digits

    bunch = load_digits()

    def read(index: int) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(np.uint8(np.round(bunch.images[index] * 255 / 16))).save(buffer, "PNG")
        return buffer.getvalue()

    count = len(bunch.target)
    return Listing(
        name="digits",
        ids=np.array([f"digits/{i:04d}.png" for i in range(count)]),
        labels=bunch.target.astype(np.int32),
        parts=np.full(count, "", dtype="<U5"),
        classes=tuple(str(name) for name in bunch.target_names),
        read=read,
    )


def _folder(argument: str) -> Listing:
    """A folder with one sub-folder a class, or with train/, val/ and test/ that each hold those."""
    root = Path(argument).expanduser()
    if not argument or not root.is_dir():
        beside = [p.name for p in root.parent.iterdir() if p.is_dir()] if argument and root.parent.is_dir() else []
        raise UserError(f"--data: no such folder{did_you_mean(root.name, beside)}. Received: 'folder:{argument}'")
    root = root.resolve()
    tops = sorted(p for p in root.iterdir() if p.is_dir() and not _hidden(p.name))
    by_part: dict[str, Path] = {}
    for top in tops:
        part = _FOLDER_NAMES.get(top.name.lower())
        if part in by_part:
            raise UserError(
                f"--data: {by_part[part].name}/ and {top.name}/ both name the {part} split. Received: {data_text(root)}"
            )
        if part:
            by_part[part] = top
    split = "train" in by_part
    findings, rows = [], []
    for part, folder in sorted(by_part.items()) if split else [("", root)]:
        rows += _class_files(root, folder, part, findings)
    if split:
        outside = [top for top in tops if top not in by_part.values()]
        findings += [
            Finding(top.name + "/", "unknown_folder", "reject", "beside train/, and not a split") for top in outside
        ]
        findings += [_stray(root, path) for path in sorted(root.iterdir()) if path.is_file() and not _hidden(path.name)]
    classes = tuple(sorted({name for part, name, _ in rows if part in ("train", "")}))
    known = []
    for part, name, path in rows:
        if name in classes:
            known.append((part, classes.index(name), path))
        else:
            detail = f"class '{name}' has no training picture"
            findings.append(Finding(_relative(root, path), "class_not_in_train", "reject", detail))
    if len(classes) < 2:
        found = ", ".join(classes) or "none"
        raise UserError(
            f"--data: at least two class folders with files are needed; found: {found}. Received: {data_text(root)}"
        )
    paths = [path for _, _, path in known]
    return Listing(
        name=root.name,
        ids=np.array([_relative(root, path) for path in paths]),
        labels=np.array([label for _, label, _ in known], np.int32),
        parts=np.array([part for part, _, _ in known], dtype="<U5"),
        classes=classes,
        read=lambda index: paths[index].read_bytes(),
        findings=tuple(findings),
    )


def data_text(root: Path) -> str:
    """How a folder is written in `--data`, for messages."""
    return f"'folder:{root}'"


def _class_files(root: Path, folder: Path, part: str, findings: list[Finding]) -> list[tuple[str, str, Path]]:
    """(part, class, path) of every file below the class folders of `folder`; adds what is passed over."""
    rows = []
    for top in sorted(folder.iterdir()):
        if top.is_dir() and not _hidden(top.name):
            files = []
            for parent, folders, names in os.walk(top):
                folders[:] = sorted(name for name in folders if not _hidden(name))
                for name in sorted(names):
                    path = Path(parent, name)
                    if _hidden(name):
                        findings.append(
                            Finding(_relative(root, path), "system_file", "reject", "hidden or system file")
                        )
                    else:
                        files.append(path)
            if not files:
                findings.append(
                    Finding(_relative(root, top) + "/", "empty_class", "reject", "the folder holds no files")
                )
            rows += [(part, top.name, path) for path in files]
        elif not top.is_dir():
            findings.append(_stray(root, top))
    return rows


def _stray(root: Path, path: Path) -> Finding:
    if _hidden(path.name):
        return Finding(_relative(root, path), "system_file", "reject", "hidden or system file")
    return Finding(_relative(root, path), "no_class", "reject", "outside of any class folder")


def _relative(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()


def _hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _SYSTEM_FILES
