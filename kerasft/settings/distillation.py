"""What `--teacher` and `--distill` ask for, checked against the task and the classes as soon as the data are listed.

Needs no TensorFlow: of a teacher only its description is read.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from kerasft.settings import backbone_list
from kerasft.settings import spec as specs
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError

# The temperature where `--distill` names none. Regression has none.
DEFAULT_TEMPERATURE = 2.0

# Names in a message, at most.
MAX_NAMES_IN_MESSAGE = 5

# Files of a run folder, and the description in a SavedModel.
RUN_MODEL, RUN_METRICS = "model.keras", "metrics.json"
SAVED_MODEL, SAVED_METADATA = "saved_model.pb", Path("assets.extra", "kerasft.json")


class TeacherFiles(NamedTuple):
    """A teacher on disk.

    Attributes:
        path: as `--teacher` names it.
        model: its `model.keras`, or the folder of its SavedModel.
        task: `single_label`, `multi_label` or `regression`.
        classes: names of its classes, labels or targets, in its own order.
        size: side of its images in pixels.
        framing: of its images.
    """

    path: str
    model: Path
    task: str
    classes: tuple[str, ...]
    size: int
    framing: str


class Distillation(NamedTuple):
    """What a student learns from, and how.

    Attributes:
        teachers: whose mean answer is taught.
        temperature: T, by which logits are divided.
        weight: a, the share of the loss of the teacher's answers; 1 - a is that of the labels. 0 where they are not taught.
        features_weight: of the loss of the teacher's features; 0 where they are not taught.
    """

    teachers: tuple[TeacherFiles, ...]
    temperature: float
    weight: float
    features_weight: float = 0.0


class _Logits(NamedTuple):
    temperature: float | None
    weight: float


class _Features(NamedTuple):
    weight: float


def requested(config: Config, task: str, classes: Sequence[str]) -> Distillation | None:
    """What `--teacher` asks for; None without it.

    Args:
        config: the settings.
        task: of the student.
        classes: names of its classes, labels or targets.

    Raises:
        UserError: there is no teacher, it is of another task or has other classes, or `--distill` is wrong; or `--unlabelled`
            does not go with the other settings.
    """
    if not config.teacher.strip():
        if config.distill.strip() != "logits":
            raise UserError(f"--distill: needs a --teacher to learn from. Received: {config.distill!r}")
        if config.unlabelled:
            raise UserError(f"--unlabelled: needs a --teacher to learn from. Received: {config.unlabelled!r}")
        return None
    logits, features = _build(config)
    if config.unlabelled and not logits.weight:
        rule = (
            "without a label there are only the teacher's logits to learn in phases on cached features; name logits too"
        )
        raise UserError(f"--distill: {rule}, or leave out --unlabelled. Received: {config.distill!r}")
    if config.unlabelled and config.sampling == "balanced":
        rule = "draws each class equally often, and --unlabelled images have none; leave one of them out"
        raise UserError(f"--sampling: balanced {rule}. Received: {config.sampling!r}")
    if task == "regression" and logits.temperature is not None:
        rule = "temperature is for classes and labels, and the task is regression; leave it out"
        raise UserError(f"--distill: {rule}. Received: {config.distill!r}")
    if task == "regression" and config.spec("loss").name == "pinball":
        rule = (
            "predicts a quantile, and a teacher's values may be means; leave --teacher out, or take mse, mae or huber"
        )
        raise UserError(f"--loss: pinball {rule}. Received: {config.loss!r}")
    paths = backbone_list.split(config.teacher)
    if len(set(paths)) < len(paths):
        raise UserError(f"--teacher: each teacher is named once. Received: {config.teacher!r}")
    teachers = tuple(find(path) for path in paths)
    for teacher in teachers:
        if teacher.task != task:
            rule = f"must be of the task {task}; this one is of the task {teacher.task}"
            raise UserError(f"--teacher: {rule}. Received: {teacher.path!r}")
        if set(teacher.classes) != set(classes):
            unknown, other = set(classes) - set(teacher.classes), set(teacher.classes) - set(classes)
            parts = [f"it does not know {_names(unknown)}"] * bool(unknown)
            parts += [f"it also knows {_names(other)}"] * bool(other)
            rule = f"its classes must be those of --data, by name: {'; '.join(parts)}"
            raise UserError(f"--teacher: {rule}. Received: {teacher.path!r}")
    if features.weight and (len(teachers) > 1 or teachers[0].model.is_dir()):
        rule = "features are those of one teacher, which is the folder of a finished run; leave them out, or name one"
        raise UserError(f"--distill: {rule}. Received: --teacher={config.teacher}")
    return Distillation(teachers, logits.temperature or DEFAULT_TEMPERATURE, logits.weight, features.weight)


def find(path: str) -> TeacherFiles:
    """The teacher at a path: a finished run folder, a SavedModel of kerasft, or a folder of its versions.

    Raises:
        UserError: there is none.
    """
    folder = Path(path)
    if (folder / RUN_MODEL).is_file():
        found = _read(folder / RUN_METRICS)
        model = folder / RUN_MODEL
    else:
        versions = [one for one in folder.glob("*/") if one.name.isdecimal() and (one / SAVED_MODEL).is_file()]
        model = (
            folder if (folder / SAVED_MODEL).is_file() else max(versions, key=lambda one: int(one.name), default=folder)
        )
        found = _read(model / SAVED_METADATA)
    try:
        classes, framing = tuple(map(str, found["classes"])), found.get("framing", "crop")
        return TeacherFiles(path, model, str(found["task"]), classes, int(found["image_size"]), framing)
    except (KeyError, TypeError, ValueError):
        rule = f"must be the folder of a finished run with its {RUN_MODEL}, or a SavedModel that kerasft has exported"
        raise UserError(f"--teacher: {rule}. Received: {path!r}") from None


def _read(path: Path) -> dict:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _build(config: Config) -> tuple[_Logits, _Features]:
    makers = {"logits": _logits, "features": _features}
    chosen = [specs.build(one, "--distill", makers, kind=(_Logits, _Features)) for one in config.specs("distill")]
    kinds = [type(one) for one in chosen]
    if not chosen or len(set(kinds)) < len(kinds):
        rule = "must be logits(temperature=2, weight=0.5), features(weight=1), or both with | between them"
        raise UserError(f"--distill: {rule}. Received: {config.distill!r}")
    found = dict(zip(kinds, chosen))
    return found.get(_Logits, _Logits(None, 0.0)), found.get(_Features, _Features(0.0))


def _logits(temperature: float | None = None, weight: float = 0.5) -> _Logits:
    if temperature is not None and not _is_number(temperature, 0.1, 100):
        raise ValueError("temperature must be a number in [0.1, 100]")
    if not _is_number(weight, 0, 1) or not weight:
        raise ValueError("weight must be a number in (0, 1]")
    return _Logits(None if temperature is None else float(temperature), float(weight))


def _features(weight: float = 1.0) -> _Features:
    if not _is_number(weight, 0, 100) or not weight:
        raise ValueError("weight must be a number in (0, 100]")
    return _Features(float(weight))


def _is_number(value: object, low: float, high: float) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and low <= value <= high


def _names(names: set[str]) -> str:
    shown = sorted(names)[:MAX_NAMES_IN_MESSAGE]
    return ", ".join(shown) + (", ..." if len(names) > len(shown) else "")
