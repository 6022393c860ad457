"""The gallery of suspects, and the page of an audit."""

import json
from pathlib import Path

import numpy as np
import pytest

from kerasft import report
from kerasft.report import audit_page, gallery

ASKED = []


def images(paths: list[str]) -> list[np.ndarray]:
    ASKED.extend(paths)
    return [np.full((32, 32, 3), 90, np.uint8) for _ in paths]


def rows(kind: str, count: int, **more: str) -> list[dict]:
    return [
        {"path": f"<{kind}>{k}.jpg", "kind": kind, "verdict": "warn", "detail": "why", "score": k / 100, **more}
        for k in range(count)
    ]


def test_the_most_suspicious_come_first_and_few_images_are_read():
    ASKED.clear()
    found = gallery.make(
        Path("runs/a"), [*rows("dark", 9), *rows("suspect_label", 40), *rows("leak", 2, other="b.jpg")], images
    )
    assert found["suspects_file"] == "runs/a/suspects.csv"
    assert [part["title"] for part in found["gallery"]] == ["Labels that may be wrong", "Leaks", "Dark"]
    labels, leaks, dark = found["gallery"]
    assert [card["file"] for card in labels["cards"]] == [f"<suspect_label>{k}.jpg" for k in range(39, 27, -1)]
    assert (labels["n"], len(dark["cards"])) == (40, 6)
    assert [len(card["images"]) for card in leaks["cards"]] == [2, 2]
    assert len(ASKED) == 12 + 4 + 6


def test_facts_without_a_score_and_missing_images_give_no_gallery():
    assert gallery.make(Path("a"), [{"path": "a", "kind": "alpha", "detail": ""}], images)["gallery"] == []
    assert gallery.make(Path("a"), rows("dark", 3), None)["gallery"] == []


def test_the_page_of_an_audit(tmp_path):
    findings = [
        *rows("leak", 1, other="b.jpg"),
        *rows("near_duplicate", 2, other="c.jpg"),
        {"path": "x.jpg", "kind": "corrupt", "verdict": "reject", "detail": "no image"},
    ]
    counts = {"train": {"a": 3, "b": 4}, "val": {"a": 1, "b": 1}, "test": {"a": 1, "b": 1}}
    (tmp_path / "audit.json").write_text(json.dumps({"files": 12, "counts": counts, "findings": findings}))
    (tmp_path / "run.flags").write_text("--seed=0\n")
    path = report.write_audit(tmp_path, "photos", "single_label", images, judged=True)
    page = path.read_text()
    assert path.name == "audit.html"
    assert "1 leak: scores on val and test look better" in page
    assert "&lt;leak&gt;0.jpg" in page and "<leak>" not in page
    assert page.count("data:image/jpeg") == 6
    assert "<script" not in page
    assert "suspects.csv" in page


def test_an_audit_without_findings_says_so():
    first, second = audit_page.summarise([], judged=True)
    assert first.startswith("Nothing amiss") and second.startswith("No label is contradicted")
    assert audit_page.summarise([], judged=False) == [first, audit_page.NOT_JUDGED]


@pytest.mark.parametrize("kind", ["duplicate", "constant", "dark", "group", "split_shift", "missing_class"])
def test_an_audit_with_a_finding_of_any_kind_does_not_say_that_nothing_is_amiss(kind):
    (sentence,) = audit_page.summarise([{"path": "x", "kind": kind, "verdict": "warn", "detail": ""}], judged=True)
    found = "1 copy of another image in the same split." if kind == "duplicate" else "1 further finding: 1 × "
    assert sentence.startswith(found)


def test_what_an_audit_left_out_is_said_once():
    row = {"path": "x", "kind": "duplicate", "verdict": "reject", "detail": ""}
    assert audit_page.summarise([row], judged=True) == ["1 file is left out."]
