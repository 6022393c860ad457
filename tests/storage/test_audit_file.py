"""`audit.json` and `suspects.csv`."""

import csv
import json
from dataclasses import replace

import numpy as np
from conftest import audited

from kerasft.data.listing import Finding
from kerasft.storage import audit_file, manifest


def test_the_list_has_labels_and_the_most_suspicious_of_each_kind_first(split_folder):
    checked, _ = audited(f"folder:{split_folder}")
    ids = checked.ids.copy()
    ids[0] = "=cmd"
    checked = replace(checked, ids=ids)
    manifest.write(split_folder, checked, checked)
    findings = [
        Finding("Thumbs.db", "system_file", "reject", "a system file"),
        Finding(str(ids[1]), "dark", "warn", "dark", 0.7),
        Finding(str(ids[2]), "leak", "warn", "as another", 0.95, other=str(ids[3])),
        Finding(str(ids[4]), "alpha", "warn", "a fact"),
    ]
    audit_file.write(split_folder, 30, {"train": {"disc": 3}}, findings)
    learned = [
        Finding("=cmd", "suspect_label", "warn", "looks like square", 0.96, "square"),
        Finding(str(ids[5]), "suspect_label", "warn", "looks like square", 0.99, "square"),
    ]
    audit_file.add(split_folder, learned)
    audit_file.add(split_folder, learned)
    stored = json.loads((split_folder / "audit.json").read_text())
    assert (stored["files"], stored["counts"]) == (30, {"train": {"disc": 3}})
    assert [row["kind"] for row in stored["findings"]] == [
        "system_file",
        "dark",
        "leak",
        "alpha",
        "suspect_label",
        "suspect_label",
    ]
    assert stored["findings"][0] == {
        "path": "Thumbs.db",
        "kind": "system_file",
        "verdict": "reject",
        "detail": "a system file",
    }
    assert audit_file.read_learned(split_folder) == learned
    labels = [checked.classes[label] for label in checked.labels]
    with (split_folder / "suspects.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["path", "label", "suggested", "score", "kind"],
        [str(ids[5]), labels[5], "square", "0.9900", "suspect_label"],
        ["'=cmd", labels[0], "square", "0.9600", "suspect_label"],
        [str(ids[1]), labels[1], "", "0.7000", "dark"],
        [str(ids[2]), labels[2], "", "0.9500", "leak"],
    ]


def test_a_folder_without_an_audit_has_learned_nothing(tmp_path):
    assert audit_file.read_learned(tmp_path) == []


def test_numbers_of_a_regression_are_labels(tmp_path, split_folder):
    checked, _ = audited(f"folder:{split_folder}")
    values = np.arange(len(checked.ids) * 2, dtype=np.float32).reshape(-1, 2)
    checked = replace(checked, task="regression", labels=values, classes=("x", "y"))
    manifest.write(tmp_path, checked, checked)
    audit_file.write(tmp_path, 1, {}, [Finding(str(checked.ids[3]), "suspect_label", "warn", "", 0.5, "1, 2")])
    assert "x=6, y=7" in (tmp_path / "suspects.csv").read_text()
