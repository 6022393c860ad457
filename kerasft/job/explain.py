"""`--mode=explain`: why a finished run answers as it does. No network is trained.

Maps say which places of an image count, and a check says whether the maps can be believed. The nearest training images say
what an image looks like to the network.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerasft import report
from kerasft.console import console, wording
from kerasft.data import pipeline
from kerasft.data.splits import take
from kerasft.evaluation import neighbours, scoring
from kerasft.evidence.mistakes import find_mistakes
from kerasft.job import explained_files, heat_map_check, image_reader
from kerasft.job.finished_run import Reopened, read_files, reopen
from kerasft.networks import class_activation, flip_averaging, heads
from kerasft.report.explain_page import Shown, verdict
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError
from kerasft.storage import run_folder, run_lock

JSON_NAME, PAGE_NAME = "explain.json", "explain.html"
# Images of the test set that are explained because the answer is wrong.
MAX_MISTAKES = 8
# Of each class so many images are shown, for so many classes.
PROTOTYPES, MAX_CLASSES = 3, 12
# Training images that are named for an image.
NEIGHBOURS = 3
# Of more training images, so many are compared, evenly spread over the classes.
MAX_TRAINING_IMAGES = 5000


@dataclass(frozen=True)
class _Images:
    """Images that are explained.

    Attributes:
        files: names.
        labels: what they are labelled, in words; None for files that `--images` names.
        right: whether the answer is the label; None likewise, and under regression.
        why: why each is here: `checked`, `mistake` or `asked`.
        pixels: uint8 [N, S, S, 3].
        targets: the column of each label, int [N], for the map of what was missed; -1 for none.
    """

    files: list[str]
    labels: list[str | None]
    right: list[bool | None]
    why: list[list[str]]
    pixels: np.ndarray
    targets: np.ndarray


@pipeline.user_errors()
def explain(settings: Config, run: str, images: str = "", out: str = "") -> dict[str, Any]:
    """Explains images with a finished run, and writes `explain.html` and `explain.json`.

    Args:
        settings: `--allow_imports` and `--seed` are taken from it; the rest from the run.
        run: the run folder.
        images: as for `predict`; empty for a sample of the test images and the worst mistakes.
        out: the folder to write into; by default the run folder.

    Returns:
        The content of `explain.json`.

    Raises:
        UserError: no finished run, another command works in it, its images have changed, no file matches, or the folder cannot be
            written.
    """
    asked = explained_files.find(images) if images else None
    folder = Path(out or run)
    if out and folder.exists() and not folder.is_dir():
        raise UserError(f"--out: must be a folder. Received: {out!r}")
    if out:
        run_folder.check_can_create(folder)
    # Before the lock, which makes a folder that is missing.
    read_files(run, keys=("export",))
    with run_lock.locked(Path(run)):
        return _explain_run(settings, run, asked, folder)


def _explain_run(settings: Config, run: str, asked: explained_files.Asked | None, folder: Path) -> dict[str, Any]:
    """Does the work of `explain` in a locked run folder; `folder` is the one to write into."""
    began = time.monotonic()
    opened = reopen(run, settings.allow_imports)
    model, task, test = opened.network.model, opened.network.task, opened.splits.test
    methods = class_activation.find_methods(model, task)
    for note in methods.notes:
        console.say(f"explain: {note}")
    answers = heat_map_check.make_answers(model, task)
    sample = _sample(len(test), settings.seed)
    checked = pipeline.decoded_images(test, sample, opened.network.size)
    scored = heat_map_check.count_scored(methods.found, len(sample))
    with console.progress("check of the maps", scored) as advance:
        figures, areas = heat_map_check.check(answers, methods.found, checked.astype(np.float32), task, advance)
    for name, method in methods.found.items():
        console.say(f"explain: {verdict(method.title, figures[name], task)}")
    console.say(f"explain: {wording.count(len(sample), 'test image')} checked in {figures['seconds']:.1f} s")
    chosen = _of_test(opened, sample) if asked is None else _of_files(opened, asked)
    shown, rows = _explain(opened, methods, answers, chosen)
    if asked is None:
        places = [chosen.files.index(str(test.ids[row])) for row in sample]
        for name, one in areas.items():
            for place, deletion, insertion in zip(places, *one):
                found = {"deletion": float(deletion), "insertion": float(insertion)}
                rows[place].setdefault("areas", {})[name] = found
    prototypes, typical = _prototypes(opened, methods)
    values = {
        "run": opened.folder.as_posix(),
        "task": task,
        "classes": list(opened.splits.classes),
        "methods": {
            name: {"title": method.title, "layers": list(method.layers), "side": method.side}
            for name, method in methods.found.items()
        },
        "notes": list(methods.notes),
        "check": figures,
        "images": rows,
        "prototypes": prototypes,
        "left_out": 0 if asked is None else asked.left_out,
        "failed": [] if asked is None else asked.failed,
        "seconds": round(time.monotonic() - began, 2),
    }
    run_folder.write_json(folder / JSON_NAME, values)
    by_path = image_reader.make_reader(opened.listing, opened.network.size)
    report.write_explain(folder / PAGE_NAME, values, shown, typical, by_path)
    console.say(f"explain: {folder / PAGE_NAME} ({values['seconds']:.0f} s in all)")
    return values


def _sample(count: int, seed: int) -> np.ndarray:
    """Rows of the test images that are checked, int, in order."""
    rng = np.random.default_rng(seed)
    return np.sort(rng.choice(count, min(count, heat_map_check.MAX_IMAGES), replace=False))


def _of_test(opened: Reopened, sample: np.ndarray) -> _Images:
    """The worst mistakes, then the checked images."""
    test, task = opened.splits.test, opened.network.task
    found = find_mistakes(task, opened.outputs, test.labels, opened.thresholds, MAX_MISTAKES)
    wrong = [mistake.index for mistake in found]
    rows = np.array([*wrong, *(row for row in sample.tolist() if row not in wrong)])
    right = [None] * len(rows) if task == "regression" else _right(opened)[rows].tolist()
    why = [["mistake"] * (row in wrong) + ["checked"] * (row in sample) for row in rows]
    single = task == "single_label"
    return _Images(
        [str(name) for name in test.ids[rows]],
        [_label(opened, test.labels[row]) for row in rows],
        right,
        why,
        pipeline.decoded_images(test, rows, opened.network.size),
        np.where(_right(opened)[rows], -1, test.labels[rows]) if single else np.full(len(rows), -1),
    )


def _of_files(opened: Reopened, asked: explained_files.Asked) -> _Images:
    files, pixels = explained_files.decode(asked, opened.network.size, opened.listing.framing)
    many = len(files)
    return _Images(files, [None] * many, [None] * many, [["asked"]] * many, pixels, np.full(many, -1))


def _right(opened: Reopened) -> np.ndarray:
    """Whether all of the answer for each test image is right, bool [N]; not for regression."""
    labels = opened.splits.test.labels
    if opened.network.task == "single_label":
        return opened.outputs.argmax(-1) == labels
    return ((opened.outputs >= opened.thresholds) == (labels > 0)).all(-1)


def _label(opened: Reopened, label: np.ndarray) -> str:
    """A label in words."""
    classes = opened.splits.classes
    if opened.network.task == "single_label":
        return classes[label]
    if opened.network.task == "multi_label":
        return "|".join(classes[column] for column in np.flatnonzero(label))
    return ", ".join(wording.number(float(value)) for value in label)


def _explain(
    opened: Reopened, methods: class_activation.Methods, answers: heat_map_check.Answers, chosen: _Images
) -> tuple[list[Shown], list[dict[str, Any]]]:
    """What the page shows of each image, and its row of `explain.json`."""
    if not chosen.files:
        return [], []
    task, classes, train = opened.network.task, opened.splits.classes, opened.splits.train
    pixels = chosen.pixels.astype(np.float32)
    found = answers(pixels)
    columns, signs = heat_map_check.choose(found, task)
    maps = {name: method.compute(pixels, columns, signs) for name, method in methods.found.items()}
    missed, first = np.flatnonzero(chosen.targets >= 0), next(iter(methods.found), None)
    of_label = {}
    if first and len(missed):
        several = methods.found[first].compute(pixels[missed], chosen.targets[missed], np.ones(len(missed)))
        of_label = dict(zip(missed.tolist(), several))
    given = _spread(len(train))
    inner = flip_averaging.without_mirroring(opened.network.model)
    features_of = scoring.make_predictor(keras.Model(inner.inputs[0], heads.last_depth(inner)))
    size, batch = opened.network.size, pipeline.EVALUATION_BATCH_SIZE
    training = features_of(pipeline.evaluation_stream(take(train, given), size=size, batch_size=batch))
    near, similar = neighbours.nearest(training, features_of([pixels]), NEIGHBOURS)
    predicted = scoring.make_predictor(opened.network.model)([pixels]) if task == "regression" else found
    shown, rows = [], []
    for index, file in enumerate(chosen.files):
        column = columns[index]
        row = {"file": file, "label": chosen.labels[index], "right": chosen.right[index], "why": chosen.why[index]}
        row |= {"answer": classes[column]}
        row["value" if task == "regression" else "probability"] = float(predicted[index, column])
        row["neighbours"] = [
            {
                "file": str(train.ids[given[one]]),
                "label": _label(opened, train.labels[given[one]]),
                "similarity": cosine,
            }
            for one, cosine in zip(near[index], similar[index].tolist())
        ]
        rows.append(row)
        own = {name: several[index] for name, several in maps.items()}
        shown.append(Shown(chosen.pixels[index], own, of_label.get(index)))
    return shown, rows


def _spread(count: int) -> np.ndarray:
    """Rows of the training images that are compared, int. A source lists its images by class."""
    return np.unique(np.linspace(0, count - 1, min(count, MAX_TRAINING_IMAGES)).astype(int))


def _prototypes(
    opened: Reopened, methods: class_activation.Methods
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, list[Shown]]]:
    """The test images of each class that have it with the highest probability, for `explain.json` and for the page."""
    values, shown = {}, {}
    if opened.network.task == "regression":
        return values, shown
    test, outputs = opened.splits.test, opened.outputs
    for column, name in enumerate(opened.splits.classes[:MAX_CLASSES]):
        if opened.network.task == "single_label":
            has = (test.labels == column) & (outputs.argmax(-1) == column)
        else:
            has = (test.labels[:, column] > 0) & (outputs[:, column] >= opened.thresholds[column])
        rows = np.flatnonzero(has)
        rows = rows[np.argsort(-outputs[rows, column], kind="stable")][:PROTOTYPES]
        if not len(rows):
            continue
        pixels = pipeline.decoded_images(test, rows, opened.network.size)
        given = pixels.astype(np.float32), np.full(len(rows), column), np.ones(len(rows))
        maps = {key: method.compute(*given) for key, method in methods.found.items()}
        values[name] = [{"file": str(test.ids[row]), "probability": float(outputs[row, column])} for row in rows]
        shown[name] = [
            Shown(pixels[index], {key: several[index] for key, several in maps.items()}) for index in range(len(rows))
        ]
    return values, shown
