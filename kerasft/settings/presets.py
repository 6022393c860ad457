"""Presets: flagfiles that come with the package, found by name from any folder."""

from pathlib import Path

from kerasft.settings.errors import UserError, did_you_mean, one_of

PACKAGE = Path(__file__).parents[1]
PURPOSE = "# Purpose:"  # how the first line of a preset begins


def folder() -> Path:
    """Where the presets are: in the installed package, or in `pipelines/` beside it where the source is used as it is."""
    packaged = PACKAGE / "presets"
    return packaged if packaged.is_dir() else PACKAGE.parent / "pipelines"


def names() -> list[str]:
    """The names that `--preset` takes."""
    return sorted(path.stem for path in folder().glob("*.flags"))


def path(name: str) -> Path:
    """The flagfile of a preset.

    Raises:
        UserError: no preset has this name.
    """
    known = names()
    if name not in known:
        rule = f"must be one of {one_of(known)}{did_you_mean(name, known)}; a file of yours goes into --flagfile"
        raise UserError(f"--preset: {rule}. Received: {name!r}")
    return folder() / f"{name}.flags"


def purpose(name: str) -> str:
    """What a preset is for: its first line, which is a comment."""
    with path(name).open(encoding="utf-8") as file:
        return file.readline().removeprefix(PURPOSE).strip()
