"""A finished run: what is said of it, and what is mended where a part of it is gone."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import tensorflow as tf

from kerasft import report
from kerasft.console import console
from kerasft.data import splits
from kerasft.data.decode import decode_batch
from kerasft.data.listing import Listing
from kerasft.evaluation import scoring


def complete(folder: Path, metrics: dict, listing: Listing) -> None:
    """Says that a run is finished, writes its report where there is none, and names what is gone."""
    if (folder / "report.html").is_file() or not (folder / "predictions.npz").is_file():
        console.say(f"{folder} is finished with these settings; nothing to do (--noresume runs it again).")
    else:
        # Runs of versions without `--framing` were cropped.
        listing = replace(listing, framing=metrics.get("framing", "crop"))
        report.write(folder, metrics, _old_thumbnails(folder, metrics["image_size"], listing))
        console.say(f"{folder} is finished with these settings, but had no report.html: it is written now.")
    parts = [folder / "predictions.npz", Path(metrics["export"]["path"], "saved_model.pb")]
    if metrics.get("artefacts", {}).get("model.keras", {}).get("published", True):
        parts.insert(0, folder / "model.keras")
    for path in (path for path in parts if not path.is_file()):
        console.say(f"warning: {path} is gone (--noresume runs it all again)")


def _old_thumbnails(folder: Path, size: int, listing: Listing) -> Callable[[np.ndarray], np.ndarray]:
    """The test pictures of a finished run, uint8 [B, S, S, 3], by their names; grey where one is gone or spoiled."""
    with np.load(folder / "predictions.npz", allow_pickle=False) as stored:
        ids = stored["ids"]
    places = {str(name): place for place, name in enumerate(listing.ids)}

    def picture(name: str) -> np.ndarray:
        try:
            return decode_batch(tf.constant([listing.read(places[name])]), size, listing.framing).numpy()[0]
        except (KeyError, OSError, ValueError, tf.errors.InvalidArgumentError):
            return np.full((size, size, 3), 128, np.uint8)

    return lambda rows: np.stack([picture(str(ids[row])) for row in rows])


def summarise(folder: Path, metrics: dict) -> None:
    test, proof, score = metrics["test"], metrics["export"], scoring.SCORES[metrics["task"]]
    loss = "log loss" if metrics["task"] != "regression" else "loss"
    found = f"{scoring.TITLES[score]} {console.figure(test[score])}"
    if len(each := test.get("per_target", {})) > 1:  # of different units: a mean of them says nothing
        found = "mean absolute error " + ", ".join(f"{name} {console.figure(row['mae'])}" for name, row in each.items())
    console.say(f"test: {found}, {loss} {console.figure(test['loss'])} on {test['n']} pictures")
    if test.get("excluded_copies"):
        console.say(f"test: copies of pictures in train or val, which do not count: {test['excluded_copies']}")
    if absent := [name for name, row in test.get("per_class", {}).items() if not row["n"]]:
        named = ", ".join(absent[: splits.MAX_CLASSES_IN_MESSAGE]) + (
            ", ..." if len(absent) > splits.MAX_CLASSES_IN_MESSAGE else ""
        )
        console.say(f"WARNING: the test score says nothing of what has no test picture: {named}")
    alike = f"{proof['top1_agreement']:.2%} same labels, probabilities" if "top1_agreement" in proof else "values"
    console.say(f"exported: {proof['path']} (from bytes: {alike} within {proof['max_abs_diff']:.1e})")
    page = ", with report.html" if (folder / "report.html").is_file() else ""
    console.say(f"recorded: {folder}{page} ({metrics['seconds']['total']:.0f} s in all)")
