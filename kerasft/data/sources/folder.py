"""The folder source: a folder with one sub-folder a class, or with train/, val/ and test/ that each hold those."""

import os
from pathlib import Path

import numpy as np

from kerasft.data import files
from kerasft.data.listing import SPLIT_ALIASES, SPLITS, Finding, Listing, encode, find_train_classes
from kerasft.settings.errors import UserError, did_you_mean

# Files that Windows and macOS put into folders, in lower case.
_SYSTEM_FILES = {"thumbs.db", "desktop.ini", "icon\r"}


def list_folder(argument: str) -> Listing:
    """Lists a folder of images, single-label. Hidden files and system files are skipped.

    Args:
        argument: what follows `folder:`. The folder holds one sub-folder a class, nested to any depth, or train/, val/
            and test/ that each hold those.

    Raises:
        UserError: there is no such folder, it is not one of ordinary files, or it has fewer than two classes.
    """
    root = _find_root(argument, "data", "is a file; a table is csv:FILE")
    tops = sorted(p for p in root.iterdir() if p.is_dir() and not is_hidden(p.name))
    split_folders: dict[str, Path] = {}
    for top in tops:
        split = SPLIT_ALIASES.get(top.name.lower())
        if split in split_folders:
            rule = f"{split_folders[split].name}/ and {top.name}/ both name the {split} split"
            raise UserError(f"--data: {rule}. Received: {data_text(root)}")
        if split:
            split_folders[split] = top
    has_train = "train" in split_folders
    if split_folders and not has_train:
        _refuse_no_train(root, tops, split_folders)
    findings, rows = [], []
    for split, folder in sorted(split_folders.items()) if has_train else [("", root)]:
        rows += _list_classes(root, folder, split, findings)
    if has_train:
        outside = [top for top in tops if top not in split_folders.values()]
        if not {*SPLITS} <= {*split_folders}:
            _refuse_unknown_split(root, outside, {name for _, name, _ in rows})
        findings += [
            Finding(top.name + "/", "unknown_folder", "reject", "stands next to train/ and is not a split")
            for top in outside
        ]
        findings += [
            _describe_stray(root, path)
            for path in sorted(root.iterdir())
            if not path.is_dir() and not is_hidden(path.name)
        ]
    train_classes, unknown = find_train_classes([[name] for _, name, _ in rows], [split for split, _, _ in rows])
    for index, name in unknown.items():
        detail = f"class '{name}' has no training image"
        findings.append(Finding(_relative(root, rows[index][2]), "class_not_in_train", "reject", detail))
    classes, rows = tuple(sorted(train_classes)), [row for index, row in enumerate(rows) if index not in unknown]
    if len(classes) < 2:
        rule = f"at least two class folders with files are needed; found: {', '.join(classes) or 'none'}"
        if has_train and outside and not classes:
            train = split_folders["train"].name
            rule += f"; {train}/ is taken for the training split; if it is a class like {outside[0].name}/, rename it"
        raise UserError(f"--data: {rule}. Received: {data_text(root)}")
    paths = [path for _, _, path in rows]
    return Listing(
        name=root.name,
        task="single_label",
        ids=np.array([_relative(root, path) for path in paths]),
        labels=encode([[name] for _, name, _ in rows], classes, "single_label"),
        split_names=np.array([split for split, _, _ in rows], dtype="<U5"),
        classes=classes,
        read=lambda index: files.read(paths[index]),
        findings=tuple(findings),
        named_splits=frozenset(split_folders if has_train else ()),
    )


def list_unlabelled(argument: str) -> Listing:
    """Lists all images of a folder, at any depth, without labels. Hidden files and system files are skipped.

    Args:
        argument: what follows `folder:`.

    Returns:
        A Listing of the task `unlabelled`, with `unlabelled:` before each path.

    Raises:
        UserError: there is no such folder, it is not one of ordinary files, or it has no files.
    """
    root = _find_root(argument, "unlabelled", "is a file")
    findings: list[Finding] = []
    paths = _list_files(root, root, findings)
    if not paths:
        raise UserError(f"--unlabelled: the folder holds no files. Received: {data_text(root)}")
    return Listing(
        name=root.name,
        task="unlabelled",
        ids=np.array([f"unlabelled:{_relative(root, path)}" for path in paths]),
        labels=np.zeros((len(paths), 0), np.float32),
        split_names=np.full(len(paths), "", dtype="<U5"),
        classes=(),
        read=lambda index: files.read(paths[index]),
        findings=tuple(finding._replace(path=f"unlabelled:{finding.path}") for finding in findings),
    )


def _find_root(argument: str, flag: str, is_file: str) -> Path:
    """Returns the folder that a flag names after `folder:`, resolved.

    Args:
        is_file: the rule where it is a file.

    Raises:
        UserError: there is no such folder, or it is not one of ordinary files.
    """
    root = files.expand(argument, f"--{flag}")
    if not argument or not root.is_dir():
        siblings = [p.name for p in root.parent.iterdir() if p.is_dir()] if argument and root.parent.is_dir() else []
        rule = is_file if argument and root.is_file() else "no such folder"
        raise UserError(f"--{flag}: {rule}{did_you_mean(root.name, siblings)}. Received: 'folder:{argument}'")
    if files.is_pseudo(root) or root.resolve() == Path(root.resolve().anchor):
        rule = "must be a folder of images; / holds the whole machine, and /proc, /sys and /dev hold no ordinary files"
        raise UserError(f"--{flag}: {rule}. Received: 'folder:{argument}'")
    return root.resolve()


def _refuse_no_train(root: Path, tops: list[Path], split_folders: dict[str, Path]) -> None:
    """Refuses val/ or test/ without train/, unless they are classes that only have such names."""
    names = ", ".join(f"{top.name}/" for top in split_folders.values())
    inside = {path.name for top in split_folders.values() for path in top.iterdir() if path.is_dir()}
    others = {top.name for top in tops} - {top.name for top in split_folders.values()}
    if not others or inside & others:
        rule = f"{names} without train/; put the class folders of the training images into train/"
        raise UserError(f"--data: {rule}. Received: {data_text(root)}")


def _refuse_unknown_split(root: Path, outside: list[Path], classes: set[str]) -> None:
    """Refuses a folder of the same classes that is no split, where one would be drawn from train in its place."""
    for top in outside:
        if any(path.is_dir() and path.name in classes for path in top.iterdir()):
            rule = f"{top.name}/ holds class folders and is no split; call it train, val or test, or move it away"
            raise UserError(f"--data: {rule}. Received: {data_text(root)}")


def data_text(root: Path) -> str:
    """Returns a folder as `--data` takes it, for messages."""
    return f"'folder:{root}'"


def _list_classes(root: Path, folder: Path, split: str, findings: list[Finding]) -> list[tuple[str, str, Path]]:
    """Returns (split, class, path) of every file below the class folders of `folder`; adds findings of what is skipped."""
    rows = []
    for top in sorted(folder.iterdir()):
        if not top.is_dir():
            findings.append(_describe_stray(root, top))
        elif not is_hidden(top.name):
            if detail := _find_link_fault(root, top):
                findings.append(Finding(_relative(root, top) + "/", "linked_folder", "reject", detail))
                continue
            paths = _list_files(root, top, findings)
            if not paths:
                findings.append(
                    Finding(_relative(root, top) + "/", "empty_class", "reject", "the folder holds no files")
                )
            findings += _describe_subfolders(root, top, paths)
            rows += [(split, top.name, path) for path in paths]
    return rows


def _describe_subfolders(root: Path, top: Path, paths: list[Path]) -> list[Finding]:
    """Returns a finding where a class folder has several folders in it, which may have been meant as classes; or none."""
    parts = [path.relative_to(top).parts for path in paths]
    names = sorted({below[0] for below in parts if len(below) > 1})
    if len(names) < 2:
        return []
    shown = ", ".join(names[:5]) + ", ..." * (len(names) > 5)
    detail = f"holds {len(names)} sub-folders ({shown}); their images are taken together"
    return [Finding(_relative(root, top) + "/", "subfolders", "warn", detail)]


def _find_link_fault(root: Path, top: Path) -> str | None:
    """Returns why a class folder must not be listed: a link to `/`, say, would list the whole machine."""
    if root.is_relative_to(top.resolve()):
        return "a link to a folder that holds the data itself is not followed"
    return "holds no ordinary files" if files.is_pseudo(top) else None


def _list_files(root: Path, top: Path, findings: list[Finding]) -> list[Path]:
    """Returns every file below a class folder, without hidden and system files; adds findings of what is skipped."""

    def reject(path: Path, kind: str, detail: str) -> None:
        findings.append(Finding(_relative(root, path) + "/" * path.is_dir(), kind, "reject", detail))

    def reject_unreadable(error: OSError) -> None:
        reject(Path(error.filename), "unreadable", error.strerror or str(error))

    paths = []
    for parent, folders, names in os.walk(top, onerror=reject_unreadable):
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        for linked in filter(Path.is_symlink, (Path(parent, name) for name in folders)):
            reject(linked, "linked_folder", "a link to a folder is not followed")
        for path in (Path(parent, name) for name in sorted(names)):
            if is_hidden(path.name):
                reject(path, "system_file", "hidden or system file")
            else:
                paths.append(path)
    return paths


def _describe_stray(root: Path, path: Path) -> Finding:
    if is_hidden(path.name):
        return Finding(_relative(root, path), "system_file", "reject", "hidden or system file")
    return Finding(_relative(root, path), "no_class", "reject", "outside of any class folder")


def _relative(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()


def is_hidden(name: str) -> bool:
    """Tells whether a file or folder is skipped: its name begins with a dot, or is that of a system file."""
    return name.startswith(".") or name.lower() in _SYSTEM_FILES
