"""The folder source: one sub-folder a class, or train/, val/ and test/ that each hold those."""

import os
from pathlib import Path

import numpy as np

from kerasft.data import files
from kerasft.data.listing import SPLIT_NAMES, Finding, Listing, encode, train_classes
from kerasft.settings.errors import UserError, did_you_mean

_SYSTEM_FILES = {"thumbs.db", "desktop.ini", "icon\r"}


def folder(argument: str) -> Listing:
    """Lists a folder of pictures, single-label; hidden and system files are passed over.

    Args:
        argument: what follows `folder:`. Below it one sub-folder a class, nested as deep as one likes, or train/,
            val/ and test/ that each hold those.

    Raises:
        UserError: no such folder, or fewer than two classes.
    """
    root = Path(argument).expanduser()
    if not argument or not root.is_dir():
        beside = [p.name for p in root.parent.iterdir() if p.is_dir()] if argument and root.parent.is_dir() else []
        rule = "is a file; a table is csv:FILE" if argument and root.is_file() else "no such folder"
        raise UserError(f"--data: {rule}{did_you_mean(root.name, beside)}. Received: 'folder:{argument}'")
    root = root.resolve()
    tops = sorted(p for p in root.iterdir() if p.is_dir() and not hidden(p.name))
    by_part: dict[str, Path] = {}
    for top in tops:
        part = SPLIT_NAMES.get(top.name.lower())
        if part in by_part:
            raise UserError(
                f"--data: {by_part[part].name}/ and {top.name}/ both name the {part} split. Received: {data_text(root)}"
            )
        if part:
            by_part[part] = top
    split = "train" in by_part
    if by_part and not split:
        _refuse_no_train(root, tops, by_part)
    findings, rows = [], []
    for part, folder in sorted(by_part.items()) if split else [("", root)]:
        rows += _class_files(root, folder, part, findings)
    if split:
        outside = [top for top in tops if top not in by_part.values()]
        findings += [
            Finding(top.name + "/", "unknown_folder", "reject", "beside train/, and not a split") for top in outside
        ]
        findings += [
            _stray(root, path) for path in sorted(root.iterdir()) if not path.is_dir() and not hidden(path.name)
        ]
    known, unknown = train_classes([[name] for _, name, _ in rows], [part for part, _, _ in rows])
    for index, name in unknown.items():
        detail = f"class '{name}' has no training picture"
        findings.append(Finding(_relative(root, rows[index][2]), "class_not_in_train", "reject", detail))
    classes, rows = tuple(sorted(known)), [row for index, row in enumerate(rows) if index not in unknown]
    if len(classes) < 2:
        found = ", ".join(classes) or "none"
        raise UserError(
            f"--data: at least two class folders with files are needed; found: {found}. Received: {data_text(root)}"
        )
    paths = [path for _, _, path in rows]
    return Listing(
        name=root.name,
        task="single_label",
        ids=np.array([_relative(root, path) for path in paths]),
        labels=encode([[name] for _, name, _ in rows], classes, "single_label"),
        parts=np.array([part for part, _, _ in rows], dtype="<U5"),
        classes=classes,
        read=lambda index: files.read(paths[index]),
        findings=tuple(findings),
    )


def _refuse_no_train(root: Path, tops: list[Path], by_part: dict[str, Path]) -> None:
    """Refuses val/ or test/ without train/, unless they are classes that only bear such names."""
    names = ", ".join(f"{top.name}/" for top in by_part.values())
    inside = {path.name for top in by_part.values() for path in top.iterdir() if path.is_dir()}
    others = {top.name for top in tops} - {top.name for top in by_part.values()}
    if not others or inside & others:
        rule = f"{names} without train/; put the class folders that are to be learned from into train/"
        raise UserError(f"--data: {rule}. Received: {data_text(root)}")


def data_text(root: Path) -> str:
    """How a folder is written in `--data`, for messages."""
    return f"'folder:{root}'"


def _class_files(root: Path, folder: Path, part: str, findings: list[Finding]) -> list[tuple[str, str, Path]]:
    """(part, class, path) of every file below the class folders of `folder`; adds what is passed over."""
    rows = []
    for top in sorted(folder.iterdir()):
        if top.is_dir() and not hidden(top.name):
            files = _files(root, top, findings)
            if not files:
                findings.append(
                    Finding(_relative(root, top) + "/", "empty_class", "reject", "the folder holds no files")
                )
            rows += [(part, top.name, path) for path in files]
        elif not top.is_dir():
            findings.append(_stray(root, top))
    return rows


def _files(root: Path, top: Path, findings: list[Finding]) -> list[Path]:
    """Every file below a class folder but hidden and system ones; adds what is passed over."""

    def refused(path: Path, kind: str, detail: str) -> None:
        findings.append(Finding(_relative(root, path) + "/" * path.is_dir(), kind, "reject", detail))

    def closed(error: OSError) -> None:
        refused(Path(error.filename), "unreadable", error.strerror or str(error))

    files = []
    for parent, folders, names in os.walk(top, onerror=closed):
        folders[:] = sorted(name for name in folders if not hidden(name))
        for linked in filter(Path.is_symlink, (Path(parent, name) for name in folders)):
            refused(linked, "linked_folder", "a link to a folder is not followed")
        for path in (Path(parent, name) for name in sorted(names)):
            if hidden(path.name):
                refused(path, "system_file", "hidden or system file")
            else:
                files.append(path)
    return files


def _stray(root: Path, path: Path) -> Finding:
    if hidden(path.name):
        return Finding(_relative(root, path), "system_file", "reject", "hidden or system file")
    return Finding(_relative(root, path), "no_class", "reject", "outside of any class folder")


def _relative(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()


def hidden(name: str) -> bool:
    """Whether a file or folder is passed over: its name begins with a dot, or is one of a system's own."""
    return name.startswith(".") or name.lower() in _SYSTEM_FILES
