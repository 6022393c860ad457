"""`audit.json`, the findings about the data, and `suspects.csv`, those of them that have a score, for `--exclude`."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kerasft.data import csv_escaping
from kerasft.data.listing import Finding
from kerasft.storage import manifest, run_folder

FILE_NAME, SUSPECTS_NAME = "audit.json", "suspects.csv"
COLUMNS = ("path", "label", "suggested", "score", "kind")
# Kinds that a network finds. A resumed run has them from before.
LEARNED_KINDS = ("suspect_label", "outlier")


def write(folder: Path, files: int, counts: dict[str, dict[str, int]], findings: Iterable[Finding]) -> None:
    """Writes both files.

    Args:
        folder: with the manifest of the data, which tells the labels.
        files: number of files of the source.
        counts: images by split and class.
        findings: in the order of the file.
    """
    _write(folder, {"files": files, "counts": counts, "findings": [finding.to_json() for finding in findings]})


def add(folder: Path, findings: list[Finding]) -> None:
    """Adds what a network found to both files. Earlier findings of these kinds are replaced."""
    report = run_folder.read_json(folder / FILE_NAME, "files", "counts", "findings")
    kept = [row for row in report["findings"] if row["kind"] not in LEARNED_KINDS]
    _write(folder, report | {"findings": [*kept, *(finding.to_json() for finding in findings)]})


def read_learned(folder: Path) -> list[Finding]:
    """Returns what a network found before; empty where there is no file."""
    rows = run_folder.read_json(folder / FILE_NAME).get("findings", [])
    return [Finding(**row) for row in rows if row["kind"] in LEARNED_KINDS]


def _write(folder: Path, report: dict[str, Any]) -> None:
    run_folder.write_json(folder / FILE_NAME, report)
    labels = manifest.read_labels(folder)
    rows = [row for row in report["findings"] if "score" in row and row["verdict"] == "warn"]
    # The kinds stay in the order of the report; of each, the most suspicious stands first.
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    # What a network says of labels is what most users want to see first.
    kinds.sort(key=lambda kind: (*LEARNED_KINDS, kind).index(kind))
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for row in sorted(rows, key=lambda row: (kinds.index(row["kind"]), -row["score"])):
        known = labels.get(row["path"], ""), row.get("suggested", "")
        words = [csv_escaping.escape_formula(word) for word in (row["path"], *known)]
        table.writerow([*words, f"{row['score']:.4f}", row["kind"]])
    run_folder.write(folder / SUSPECTS_NAME, lambda file: file.write(text.getvalue().encode("utf-8", "replace")))
