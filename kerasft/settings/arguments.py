"""The words of a command line, written out as flags: `kerasft serve` is `--mode=serve`, `--preset=NAME` is a flagfile."""

from collections.abc import Mapping
from typing import Any

from kerasft.settings import presets
from kerasft.settings.errors import UserError, did_you_mean, one_of
from kerasft.settings.modes import COMMANDS, MODES


def expand(arguments: list[str]) -> list[str]:
    """Replaces a leading MODE by `--mode=MODE`, and each `--preset=NAME` by the `--flagfile=` that it stands for.

    A preset keeps its place, so that a flag after it wins and one before it loses. MODE goes to the end, so that
    it wins over a `--mode` in a flagfile.

    Args:
        arguments: as they were typed, without the name of the program.

    Raises:
        UserError: a first word that is no mode, a second mode, or a preset that does not exist.
    """
    mode = []
    if arguments and not arguments[0].startswith("-"):
        word, *arguments = arguments
        if word not in MODES:
            known = [*MODES, *COMMANDS]
            rule = f"the first word must be one of {one_of(known)}{did_you_mean(word, known)}"
            raise UserError(f"{rule}; flags are written --name=value. Received: {word!r}")
        if again := [text for text in arguments if text.lstrip("-").partition("=")[0] == "mode"]:
            raise UserError(f"--mode: is {word} already; leave it. Received: {again[0]!r}")
        mode = [f"--mode={word}"]
    return [*_without_presets(arguments), *mode]


def find_overridden(arguments: list[str]) -> list[str]:
    """Returns a line for each flag that a preset after it sets too, and which therefore loses.

    Args:
        arguments: as they were typed, without the name of the program.

    Raises:
        UserError: a preset does not exist.
    """
    lines, before = [], {}
    for word in _without_presets(arguments):
        flag, _, value = word.partition("=")
        if flag == "--flagfile" and (name := presets.name_of(value)):
            settings = presets.settings(name)
            lines += [
                f"{before[one]}: not used; --preset={name} stands after it and sets {settings[one]}"
                for one in settings
                if before.get(one, settings[one]) != settings[one]
            ]
        elif word.startswith("-"):
            before["--" + flag.lstrip("-")] = word
    return lines


def check_data(arguments: list[str], mode: str, *, is_set: bool) -> None:
    """Refuses a preset for images of one's own where no images are named: the embedded digits would be taken.

    Args:
        arguments: as `expand` returns them.
        mode: what `--mode` is.
        is_set: whether a flag or a flagfile sets `--data`.

    Raises:
        UserError: see above.
    """
    files = [word.partition("=")[2] for word in arguments if word.startswith("--flagfile=")]
    names = [name for name in map(presets.name_of, files) if name]
    if names and not is_set and mode in MODES and MODES[mode].trains:
        rule = "is needed with this preset, which names no images: --data=folder:DIR, --data=csv:FILE"
        raise UserError(f"--data: {rule}. Received: '--preset={names[0]}'")


def check(preset: str, dry_run: bool, mode: str) -> None:
    """Refuses what only makes sense on the command line, or for another mode.

    Args:
        preset: what is left of `--preset` after `expand`: something where it stood in a flagfile.

    Raises:
        UserError: see above.
    """
    if preset:
        rule = "is for the command line; in a flagfile write --flagfile= with the file's name"
        raise UserError(f"--preset: {rule}. Received: {preset!r}")
    if dry_run and mode != "train":
        raise UserError(f"--dry_run: is for --mode=train. Received: --mode={mode}")


def refuse_settings(mode: str, target: str, given: Mapping[str, Any]) -> None:
    """Refuses settings that a mode would ignore, or that another setting has to make use of.

    Args:
        mode: a key of `MODES`.
        target: the value of `--target`.
        given: the settings that differ from their defaults.

    Raises:
        UserError: see above.
    """
    known = MODES[mode]
    taken = ("allow_imports", *known.settings, *(known.target_settings if target else ()))
    for name, value in given.items():
        if known.trains or name in taken:
            continue
        rule = f"is a setting of training, and {mode} uses a model as it was exported"
        if known.settings:
            rule = f"is a setting of training, and {mode} takes it from the run"
        if name in known.target_settings:
            rule = f"is for the steps of {mode} --target, and --target is not set"
        raise UserError(f"--{name}: {rule}. Received: {value!r}")
    if "cache_dir" in given and "keep_cache" not in given:
        rule = "needs --keep_cache; without it the cache is in the folder of the run, and is removed at its end"
        raise UserError(f"--cache_dir: {rule}. Received: {given['cache_dir']!r}")


def _without_presets(arguments: list[str]) -> list[str]:
    expanded, words = [], iter(arguments)
    for word in words:
        flag, equals, name = word.partition("=")
        if flag in ("--preset", "-preset"):
            name = name if equals else next(words, "")
            word = f"--flagfile={presets.path(name)}"
        expanded.append(word)
    return expanded
