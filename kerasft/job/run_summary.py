"""A finished run: prints its results, and writes its report again if it is missing."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from kerasft import report
from kerasft.console import console
from kerasft.data import split_checks
from kerasft.data.listing import Listing
from kerasft.evaluation import score_names
from kerasft.evaluation.pinball import asked_quantile
from kerasft.job import image_reader, robustness, served_baseline, uncertainty
from kerasft.storage import predictions_file


def report_finished(folder: Path, metrics: dict, listing: Listing) -> None:
    """Says that a run is finished, writes its report if it is missing, and names other missing files."""
    if (folder / "report.html").is_file() or not (folder / predictions_file.NAME).is_file():
        console.say(f"{folder} is finished with these settings; nothing to do (--noresume runs it again).")
    else:
        report.write_report(folder, metrics, *page_images(folder, metrics, listing))
        console.say(f"{folder} is finished with these settings, but had no report.html: it is written now.")
    parts = [folder / predictions_file.NAME, Path(metrics["export"]["path"], "saved_model.pb")]
    if metrics.get("artefacts", {}).get("model.keras", {}).get("published", True):
        parts.insert(0, folder / "model.keras")
    for path in (path for path in parts if not path.is_file()):
        console.say(f"warning: {path} is missing (--noresume runs everything again)")


def page_images(
    folder: Path, metrics: dict, listing: Listing
) -> tuple[Callable[[np.ndarray], np.ndarray], Callable[[list[str]], list[np.ndarray]]]:
    """Returns the images of a finished run for its report: those of positions in the test split, and those of paths.

    Args:
        folder: with `predictions.npz`.
        metrics: as in `metrics.json`.
        listing: of the data.

    Returns:
        Two functions: from positions, int [B], to uint8 [B, S, S, 3]; and from paths to uint8 [S, S, 3] each.
    """
    # Runs of versions without `--framing` were cropped.
    by_path = image_reader.make_reader(replace(listing, framing=metrics.get("framing", "crop")), metrics["image_size"])
    ids = predictions_file.read(folder, "ids")["ids"]
    return lambda rows: np.stack(by_path([str(ids[row]) for row in rows])), by_path


def summarise(folder: Path, metrics: dict) -> None:
    """Prints the test score, the proof of the export, and where the run is recorded."""
    test, proof, score = metrics["test"], metrics["export"], score_names.SCORES[metrics["task"]]
    loss = "log loss" if metrics["task"] != "regression" else "loss"
    found = f"{score_names.TITLES[score]} {console.format_metric(test[score])}"
    if asked_quantile(test) is not None and "pinball" in test:
        found = f"mean pinball loss {console.format_metric(test['pinball'])}, coverage {test['coverage']:.1%}"
    # Targets may have different units, so a mean over several of them means nothing.
    elif len(each := test.get("per_target", {})) > 1:
        found = "mean absolute error " + ", ".join(
            f"{name} {console.format_metric(row['mae'])}" for name, row in each.items()
        )
    console.say(f"test: {found}, {loss} {console.format_metric(test['loss'])} on {test['n']} images")
    if test.get("excluded_copies"):
        console.say(f"test: copies of images in train or val, which are not counted: {test['excluded_copies']}")
    if absent := [name for name, row in test.get("per_class", {}).items() if not row["n"]]:
        named = ", ".join(absent[: split_checks.MAX_CLASSES_IN_MESSAGE]) + (
            ", ..." if len(absent) > split_checks.MAX_CLASSES_IN_MESSAGE else ""
        )
        console.say(f"WARNING: the test score says nothing about classes without a test image: {named}")
    uncertainty.summarise(metrics)
    served_baseline.summarise(metrics)
    robustness.summarise(metrics)
    alike = "values" if metrics["task"] == "regression" else "probabilities"
    # Under multi-label, runs of earlier versions compared only the most probable label.
    if (agreement := proof.get(score_names.AGREEMENTS.get(metrics["task"]))) is not None:
        alike = f"{agreement:.2%} same labels, {alike}"
    done = "exported" if proof.get("published", True) else "kept, not published"
    console.say(f"{done}: {proof['path']} (from bytes: {alike} within {proof['max_abs_diff']:.1e})")
    page = ", with report.html" if (folder / "report.html").is_file() else ""
    console.say(f"recorded: {folder}{page} ({metrics['seconds']['total']:.0f} s in all)")
