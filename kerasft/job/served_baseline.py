"""`--baseline` and `--gate`: opens a model that is served today, compares the new one with it, and may refuse the new one."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kerasft.console import console
from kerasft.console.wording import join_names
from kerasft.data import groups
from kerasft.data.splits import Splits
from kerasft.evaluation import gate, scoring
from kerasft.evaluation.gate import Both, Side
from kerasft.evaluation.score_names import TITLES, of_targets, recorded_score
from kerasft.evaluation.scoring import Scorer
from kerasft.export import artefact, model_folders, saved_model
from kerasft.export.serving_outputs import answer_key, serving_outputs
from kerasft.report.baseline_section import describe_reason
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError, one_of
from kerasft.storage import baseline_file, run_folder

# The output of a multi-label model that holds its decisions.
DECISIONS = "predicted"


class GateError(Exception):
    """The new model is worse than the baseline by the rule of `--gate`. The arguments are the lines of the message."""


class Baseline(NamedTuple):
    """A served model that can be compared.

    Attributes:
        given: the value of `--baseline`.
        path: the version folder of its SavedModel.
        columns: int [C], the place of each class of the data among the model's classes.
    """

    given: str
    path: Path
    columns: np.ndarray


def open_baseline(config: Config, task: str, classes: tuple[str, ...]) -> Baseline | None:
    """Finds the model that `--baseline` names, and checks that it can be compared. It costs no training.

    Args:
        task: of the data.
        classes: of the data, or its targets.

    Returns:
        None without the flag.

    Raises:
        UserError: there is no such model, it is damaged or not of kerasft, or it has another task or other classes.
    """
    if not config.baseline:
        return None
    path, received = _find(config.baseline), f"Received: {config.baseline!r}"
    metadata = model_folders.read_metadata(path)
    theirs = metadata.get("classes")
    if not isinstance(theirs, list) or "task" not in metadata:
        rule = f"must be a model that kerasft has exported; it has no {model_folders.METADATA_FILE} with its classes"
        raise UserError(f"--baseline: {rule}. {received}")
    if metadata["task"] != task:
        raise UserError(f"--baseline: is a model for {metadata['task']}, and the data are {task}. {received}")
    unknown = [name for name in classes if name not in theirs]
    gone = [name for name in theirs if name not in classes]
    if unknown or gone:
        parts = [f"it does not know {join_names(unknown)}"] if unknown else []
        parts += [f"the data have no {join_names(gone)}"] if gone else []
        raise UserError(
            f"--baseline: must have the classes of the data, in any order; {', and '.join(parts)}. {received}"
        )
    signature = saved_model.load(path, "--baseline").signatures.get("serving_default")
    needed = {answer_key(task), *([DECISIONS] if task == "multi_label" else [])}
    if signature is None or not needed <= set(signature.structured_outputs):
        rule = f"its signature serving_default must give {', '.join(sorted(needed))}"
        raise UserError(f"--baseline: {rule}. {received}")
    return Baseline(config.baseline, path, np.array([theirs.index(name) for name in classes]))


def identify(given: str) -> dict[str, Any]:
    """What `--baseline` stands for now: as it was `given`, the `path` of the version folder, and the `run` that it is of.

    Raises:
        UserError: there is no such model.
    """
    return _identity(given, _find(given))


def _identity(given: str, path: Path) -> dict[str, Any]:
    return {"given": given, "path": path.as_posix(), "run": model_folders.read_metadata(path).get("run")}


def _find(given: str) -> Path:
    """The version folder that `--baseline` names: itself, or the export of a finished run."""
    path = Path(given)
    if (path / model_folders.SAVED_MODEL_FILE).is_file():
        return path
    if (path / "metrics.json").is_file():
        metrics = run_folder.read_json(path / "metrics.json", "export")
        exported = Path(metrics["export"]["path"])
        # Once a version is moved away, another run may get its number.
        moved = model_folders.of_other_runs(exported, metrics)
        if moved or not (exported / model_folders.SAVED_MODEL_FILE).is_file():
            rule = f"the SavedModel of this run is not there ({exported}){_versions_there(exported.parent)}"
            raise UserError(f"--baseline: {rule}. Received: {given!r}")
        return exported
    if found := _versions(path):
        rule = f"must name one version; there are {one_of(map(str, found))}"
    elif there := _versions_there(path.parent):
        rule = f"there is no such version{there}"
    else:
        names = [one.name for one in sorted(path.parent.glob("*")) if _versions(one)]
        names = names or [one.name for one in sorted(path.parent.parent.glob("*")) if _versions(one)]
        known = f"; there are models of the names {', '.join(names)}" if names else ""
        rule = f"must be an exported model, saved_models/NAME/VERSION, or the folder of a finished run{known}"
    raise UserError(f"--baseline: {rule}. Received: {given!r}")


def _versions(folder: Path) -> list[Path]:
    """The SavedModels among the versions of a folder. A baseline answers through TensorFlow."""
    return [one for one in model_folders.versions(folder) if (one / model_folders.SAVED_MODEL_FILE).is_file()]


def _versions_there(folder: Path) -> str:
    found = _versions(folder)
    return f"; there are the versions {', '.join(path.name for path in found)}" if found else ""


def compare(
    baseline: Baseline,
    config: Config,
    splits: Splits,
    scorer: Scorer,
    answered: Mapping[str, np.ndarray],
    folder: Path,
) -> dict[str, Any]:
    """Compares the new model with the baseline on the test images, both from their encoded bytes.

    Args:
        scorer: with the scale of the training targets.
        answered: the outputs of the new SavedModel, as `serving_outputs` gives them.
        folder: the run folder, which gets `baseline.npz`.

    Returns:
        The figures of `gate.compare`, with those of `identify` and `asked` (whether `--gate` was set).
    """
    task, test = splits.task, splits.test
    scorer = replace(scorer, labels=test.labels, weights=None)
    theirs = serving_outputs(baseline.path, task, test, (DECISIONS,))
    ordered = {name: values[:, baseline.columns] for name, values in theirs.items()}
    sides = []
    for outputs in (ordered, answered):
        answers = outputs[answer_key(task)]
        losses = scorer.losses(scoring.invert_activation(task, answers))
        sides.append(Side(answers, losses, outputs.get(DECISIONS)))
    both = Both(test.ids, test.labels, *sides, groups.repeated(test.groups))
    baseline_file.write(folder, both)
    units = scorer.scale if task == "regression" and test.labels.shape[1] > 1 else None
    figures = gate.compare(task, splits.classes, both, scorer.score, units, scorer.asked_quantile)
    return {**_identity(baseline.given, baseline.path), "asked": config.gate, **figures}


def refuses(figures: Mapping[str, Any]) -> bool:
    """Whether `--gate` refuses the new model."""
    return figures["asked"] and not figures["gate"]["passed"]


def unpublished(folder: Path, name: str) -> Path:
    """The folder in a run folder for a version that `--gate` refuses; an earlier one is removed."""
    artefact.discard(folder / run_folder.UNPUBLISHED)
    return folder / run_folder.UNPUBLISHED / name


def summarise(metrics: Mapping[str, Any]) -> None:
    """Prints the comparison in a line; nothing without `--baseline`."""
    if found := metrics.get("baseline"):
        score = recorded_score(found["before"])
        title = TITLES[of_targets(score, len(metrics["classes"]))]
        value, low, high = (float("nan") if end is None else end for end in found["difference"])
        loss = found["loss_difference"][0]
        ends = f" ({low:+.3f} to {high:+.3f})" if low == low else ""
        flipped = "" if metrics["task"] == "regression" else f"; {found['gained']} gained, {found['lost']} lost"
        shown = " to ".join(console.format_metric(found[when][score]) for when in ("before", "after"))
        console.say(f"baseline: {found['path']}: {title} {shown}, {value:+.3f}{ends}, loss {loss:+.3f}{flipped}")


def check_gate(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Ends the command if `--gate` refuses the new model.

    Raises:
        GateError: with the classes and the figures.
    """
    found = metrics.get("baseline")
    if not found or not refuses(found):
        return
    path, rule = metrics["export"]["path"], found["gate"]["rule"]
    published = metrics["export"].get("published", True)
    what = "it had been published before, as" if published else "so it is not published; the run keeps it in"
    hint = "" if published else "The same command without --gate publishes it. "
    raise GateError(
        f"--gate: the new model is worse than --baseline, {what} {path}",
        *(f"  {describe_reason(row)}" for row in found["gate"]["reasons"]),
        f"The rule: nothing may be worse by more than {rule['standard_errors']:g} standard error of its paired difference, "
        f"no class with at least {rule['min_images']} test images. {folder / 'report.html'} shows the images that flipped. "
        f"{hint}Received: {found['given']!r}",
    )
