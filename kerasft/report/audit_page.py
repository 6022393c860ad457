"""The page of an audit: `audit.html`, one self-contained file without scripts."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from kerasft import __version__
from kerasft.console.wording import count
from kerasft.report import gallery, sections
from kerasft.report.report_page import environment
from kerasft.storage import audit_file, run_folder

PAGE_NAME = "audit.html"


def write_audit(folder: Path, name: str, task: str, by_path: Callable[[list[str]], list[np.ndarray]]) -> Path:
    """Writes `audit.html` from `audit.json` of a run folder, and returns its path.

    Args:
        folder: the run folder.
        name: of the data.
        task: `single_label`, `multi_label` or `regression`.
        by_path: from paths to images, uint8 [S, S, 3] each.
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
        "sentences": summarise(found["findings"]),
        "flags": (folder / "run.flags").read_text(),
        "folder": folder.as_posix(),
    }
    content |= gallery.make(folder, found["findings"], by_path)
    page = environment().get_template("audit.html.j2").render(content)
    run_folder.write(folder / PAGE_NAME, lambda file: file.write(page.encode("utf-8", "replace")))
    return folder / PAGE_NAME


def summarise(findings: list[dict]) -> list[str]:
    """Returns the most important sentences about the findings, the gravest first."""
    numbers = {}
    for row in findings:
        numbers[row["kind"]] = numbers.get(row["kind"], 0) + 1
    left_out = sum(row["verdict"] == "reject" for row in findings)
    copies = numbers.get("duplicate_across_splits", 0)
    sentences = [
        (numbers.get("leak", 0), "{}: scores on val and test look better than they are.", "leak", "leaks"),
        (copies, "{} of an image in an earlier split: not used in val or test.", "copy", "copies"),
        (
            numbers.get("suspect_label", 0),
            "{} contradicted by what a model sees, and may be wrong.",
            "label is",
            "labels are",
        ),
        (numbers.get("conflicting_label", 0), "{} the same image under two labels.", "file is", "files are"),
        (numbers.get("near_duplicate", 0), "{} in the same split.", "near duplicate", "near duplicates"),
        (numbers.get("outlier", 0), "{} like no other.", "image is", "images are"),
        (left_out, "{} left out.", "file is", "files are"),
    ]
    said = [text.format(count(number, *words)) for number, text, *words in sentences if number]
    return said or ["Nothing amiss: every file could be read, none is there twice, and no label is contradicted."]
