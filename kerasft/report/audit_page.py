"""The page of an audit: `audit.html`, one self-contained file without scripts."""

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from kerasft import __version__
from kerasft.console.wording import count
from kerasft.report import gallery, sections
from kerasft.report.report_page import environment
from kerasft.storage import audit_file, run_folder

PAGE_NAME = "audit.html"

# Kinds that have a sentence of their own.
_SAID_KINDS = (
    "leak",
    "duplicate_across_splits",
    "suspect_label",
    "conflicting_label",
    "duplicate",
    "near_duplicate",
    "outlier",
)
NOT_JUDGED = "Labels were not judged: this takes pretrained weights, and at least 20 images."


def write_audit(
    folder: Path, name: str, task: str, by_path: Callable[[list[str]], list[np.ndarray]], *, judged: bool
) -> Path:
    """Writes `audit.html` from `audit.json` of a run folder, and returns its path.

    Args:
        folder: the run folder.
        name: of the data.
        task: `single_label`, `multi_label` or `regression`.
        by_path: from paths to images, uint8 [S, S, 3] each.
        judged: whether a probe looked for suspect labels and outliers.
    """
    found = run_folder.read_json(folder / audit_file.FILE_NAME, "files", "counts", "findings")
    content = {
        "name_of_data": name,
        "date": time.strftime("%d %B %Y").lstrip("0"),
        "version": __version__,
        "task": task,
        "audit": found,
        "data": sections.split_counts(found["counts"]),
        "findings": sections.findings(found["findings"]),
        "sentences": summarise(found["findings"], judged=judged),
        "flags": (folder / "run.flags").read_text(),
        "folder": folder.as_posix(),
    }
    content |= gallery.make(folder, found["findings"], by_path)
    page = environment().get_template("audit.html.j2").render(content)
    run_folder.write(folder / PAGE_NAME, lambda file: file.write(page.encode("utf-8", "replace")))
    return folder / PAGE_NAME


def summarise(findings: list[dict], *, judged: bool) -> list[str]:
    """Returns the most important sentences about the findings, the gravest first.

    Args:
        findings: of `audit.json`.
        judged: as in `write_audit`.
    """
    numbers = Counter(row["kind"] for row in findings)
    kept = Counter(row["kind"] for row in findings if row["verdict"] != "reject")
    left_out = len(findings) - kept.total()
    copies = numbers["duplicate_across_splits"]
    sentences = [
        (numbers["leak"], "{}: scores on val and test look better than they are.", "leak", "leaks"),
        (copies, "{} of an image in an earlier split: not used in val or test.", "copy", "copies"),
        (
            numbers["suspect_label"],
            "{} contradicted by what a model sees, and may be wrong.",
            "label is",
            "labels are",
        ),
        (numbers["conflicting_label"], "{} the same image under two labels.", "file is", "files are"),
        (kept["duplicate"], "{} of another image in the same split.", "copy", "copies"),
        (numbers["near_duplicate"], "{} in the same split.", "near duplicate", "near duplicates"),
        (numbers["outlier"], "{} like no other.", "image is", "images are"),
        (left_out, "{} left out.", "file is", "files are"),
    ]
    said = [text.format(count(number, *words)) for number, text, *words in sentences if number]
    if further := {kind: number for kind, number in kept.most_common() if kind not in _SAID_KINDS}:
        named = ", ".join(f"{number:,} × {kind.replace('_', ' ')}" for kind, number in further.items())
        said.append(f"{count(sum(further.values()), 'further finding')}: {named}.")
    if not said:
        said.append("Nothing amiss: every file could be read, and none is there twice.")
        said += ["No label is contradicted by what a model sees."] if judged else []
    return said if judged else [*said, NOT_JUDGED]
