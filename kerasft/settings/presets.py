"""Presets: flagfiles that come with the package. They are found by name from any working directory."""

from pathlib import Path

from kerasft.settings.errors import UserError, did_you_mean, one_of

PACKAGE = Path(__file__).parents[1]
# The first line of a preset begins with this.
PURPOSE_PREFIX = "# Purpose:"


def folder() -> Path:
    """Returns the folder of the presets: in the installed package, or `pipelines/` in a source tree."""
    packaged = PACKAGE / "presets"
    return packaged if packaged.is_dir() else PACKAGE.parent / "pipelines"


def names() -> list[str]:
    """Returns the names that `--preset` takes."""
    return sorted(path.stem for path in folder().glob("*.flags"))


def path(name: str) -> Path:
    """Returns the flagfile of a preset.

    Raises:
        UserError: no preset has this name.
    """
    known = names()
    if name not in known:
        rule = f"must be one of {one_of(known)}{did_you_mean(name, known)}; write --flagfile for a file of your own"
        raise UserError(f"--preset: {rule}. Received: {name!r}")
    return folder() / f"{name}.flags"


def name_of(file: str) -> str:
    """Returns the name of the preset that a path of `path` stands for; empty for any other path."""
    return next((name for name in names() if file == str(path(name))), "")


def settings(name: str) -> dict[str, str]:
    """Returns the lines of a preset, `--flag=value`, by flag."""
    lines = path(name).read_text(encoding="utf-8").splitlines()
    return {line.partition("=")[0]: line for line in lines if line.startswith("--")}


def purpose(name: str) -> str:
    """Returns the purpose of a preset. Its first line, a comment, states it."""
    with path(name).open(encoding="utf-8") as file:
        return file.readline().removeprefix(PURPOSE_PREFIX).strip()
