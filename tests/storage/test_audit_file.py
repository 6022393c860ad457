"""`audit.json` and `suspects.csv`."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import audited

from kerasft.data.listing import Finding
from kerasft.settings.errors import UserError
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


def _findings(*scores):
    return [Finding(f"{index}.png", "dark", "warn", "dark", score) for index, score in enumerate(scores)]


def test_a_list_that_the_user_has_edited_is_kept(tmp_path, capsys):
    path, kept = tmp_path / "suspects.csv", [tmp_path / f"suspects.edited{number}.csv" for number in ("", 2)]
    audit_file.write(tmp_path, 3, {}, _findings(0.9, 0.8))
    audit_file.write(tmp_path, 3, {"train": {"disc": 3}}, _findings(0.9, 0.8, 0.7))
    # The labels come from a manifest, which an audit removes.
    path.write_text(path.read_text().replace("0.png,,", "0.png,disc,"))
    audit_file.add(tmp_path, [])
    assert not kept[0].exists()
    assert capsys.readouterr().out == ""
    for copy in kept:
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(lines[:1] + lines[2:]))
        edited = path.read_text()
        audit_file.write(tmp_path, 3, {}, _findings(0.9, 0.8, 0.7))
        assert copy.read_text() == edited
        assert path.read_text().splitlines(keepends=True)[1:] == [lines[1].replace("disc", ""), *lines[2:]]
        assert f"audit: {path} was edited; it is kept as {copy.name}" in capsys.readouterr().out
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("report", [None, "{", '{"findings": [{"score": 1}]}'])
def test_without_a_report_a_list_is_the_users(tmp_path, report):
    (tmp_path / "suspects.csv").write_text("path\nmine.png\n")
    if report:
        (tmp_path / "audit.json").write_text(report)
    audit_file.write(tmp_path, 1, {}, _findings(0.9))
    assert (tmp_path / "suspects.edited.csv").read_text() == "path\nmine.png\n"


def test_a_run_does_not_write_over_its_own_list(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    audit_file.refuse_own_list("", Path("run"))
    audit_file.refuse_own_list("other/suspects.csv", Path("run"))
    audit_file.refuse_own_list("run/suspects.edited.csv", Path("run"))
    rule = "--exclude: a run writes suspects.csv in its own folder anew; copy the list, or name another --run_dir"
    with pytest.raises(UserError, match=rule):
        audit_file.refuse_own_list(str(tmp_path / "run" / "suspects.csv"), Path("run"))


def test_what_an_audit_found_before_it_failed_is_published(tmp_path, capsys):
    place = tmp_path / ".audit"
    with pytest.raises(UserError) as caught, audit_file.published_on_error(place, tmp_path):
        audit_file.write(place, 1, {}, _findings(0.9))
        raise UserError(f"--bad_images: see {place / 'audit.json'}. Received: 'fail'")
    assert str(caught.value) == f"--bad_images: see {tmp_path / 'audit.json'}. Received: 'fail'"
    for name in ("audit.json", "suspects.csv"):
        assert (tmp_path / name).read_bytes() == (place / name).read_bytes()
    assert f"audit: the findings are in {tmp_path / 'audit.json'}" in capsys.readouterr().out
    empty = tmp_path / "empty"
    with pytest.raises(UserError), audit_file.published_on_error(empty, tmp_path / "run"):
        raise UserError("--data: too early. Received: 'x'")
    assert not (tmp_path / "run").exists()


def test_numbers_of_a_regression_are_labels(tmp_path, split_folder):
    checked, _ = audited(f"folder:{split_folder}")
    values = np.arange(len(checked.ids) * 2, dtype=np.float32).reshape(-1, 2)
    checked = replace(checked, task="regression", labels=values, classes=("x", "y"))
    manifest.write(tmp_path, checked, checked)
    audit_file.write(tmp_path, 1, {}, [Finding(str(checked.ids[3]), "suspect_label", "warn", "", 0.5, "1, 2")])
    assert "x=6, y=7" in (tmp_path / "suspects.csv").read_text()
