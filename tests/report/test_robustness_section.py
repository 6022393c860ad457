"""The report's part about corruptions, attacks and other shares of the classes, and that about a baseline."""

import re

import numpy as np
import pytest
from finished import CASES, run_folder
from pages import Page

from kerasft import report
from kerasft.evaluation import gate
from kerasft.evaluation.corruptions import CORRUPTIONS
from kerasft.evaluation.gate import Both, Side
from kerasft.evaluation.score_names import SCORES
from kerasft.report import baseline_section, robustness
from kerasft.storage import baseline_file


def _measured(task: str, level: str = "full") -> dict:
    """Figures of `--robustness` that fall with the strength."""
    falling = [0.8, 0.7, 0.6, 0.5, 0.4] if task != "regression" else [2.0, 2.5, 3.0, 3.5, 4.0]
    values = {name: list(one.values) for name, one in CORRUPTIONS.items()}
    summary = {"level": level, "n": 120, "clean": falling[0], "mean": falling[2], "values": values}
    attacks = {"n": 64, "clean": falling[0], "epsilons": [1, 2, 4], "fgsm": falling[1:4], "pgd": falling[2:]}
    found = {"robustness": dict.fromkeys(CORRUPTIONS, falling), "robustness_summary": summary}
    row = {**found["robustness"], "clean": falling[0], "mean": falling[2]}
    return found | ({"attacks": attacks, "robustness_baselines": {"linear_probe": row}} if level == "full" else {})


def _baseline(folder, metrics: dict) -> dict:
    """A baseline whose answers are those of the run in another order."""
    with np.load(folder / "predictions.npz") as stored:
        arrays = dict(stored)
    answers, losses = arrays["values" if metrics["task"] == "regression" else "probabilities"], arrays["losses"]
    order = np.random.default_rng(0).permutation(len(losses))
    given = [None if "thresholds" not in arrays else part >= arrays["thresholds"] for part in (answers, answers[order])]
    sides = Side(answers, losses, given[0]), Side(answers[order], losses[order], given[1])
    both = Both(arrays["ids"], arrays["labels"], *sides)
    baseline_file.write(folder, both)
    found = gate.compare(metrics["task"], metrics["classes"], both, lambda x: float(x.mean()), None)
    return {"given": "m/1", "path": "m/1", "asked": True, **found}


@pytest.mark.parametrize("case", ["ten", "hostile", "hostile_labels", "targets"])
def test_the_page_is_whole_html(tmp_path, case):
    metrics = run_folder(tmp_path, *CASES[case])
    metrics |= _measured(metrics["task"]) | {"baseline": _baseline(tmp_path, metrics)}
    metrics["export"]["published"] = False
    report.write_report(tmp_path, metrics, lambda rows: np.zeros((len(rows), 8, 8, 3), np.uint8))
    page = Page((tmp_path / "report.html").read_text())
    assert (page.open, page.loose) == ([], [])
    assert "script" not in {tag for tag, _ in page.tags}
    anchors = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert {"robustness", "baseline"} <= anchors
    assert len(re.findall(r'viewBox="0 0 190 120"', page.source)) == len(CORRUPTIONS)
    assert "--gate refused the new model." in page.source and "It is not published" in page.source
    assert ("If the classes came in other shares" in page.source) == (metrics["task"] == "single_label")
    assert ("Right before, wrong now" in page.source) == (metrics["task"] != "regression")


def test_a_run_without_the_flags_has_neither(tmp_path):
    metrics = run_folder(tmp_path, *CASES["labels"])
    report.write_report(tmp_path, metrics, lambda rows: np.zeros((len(rows), 8, 8, 3), np.uint8))
    page = Page((tmp_path / "report.html").read_text())
    anchors = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert not {"robustness", "baseline"} & anchors


@pytest.mark.parametrize("task", SCORES)
def test_the_worst_corruption_is_named(task):
    metrics = {"task": task, "classes": ["a"], **_measured(task, "quick")}
    worse = [0.1] * 5 if task != "regression" else [9.0] * 5
    metrics["robustness"] = {**metrics["robustness"], "gaussian_blur": worse}
    found = robustness.section(metrics)
    assert "The worst corruption is gaussian blur." in found["sentences"][0]
    assert found["attacks"] is None and found["baselines"] == [] and len(found["panels"]) == len(CORRUPTIONS)
    assert dict(found["rows"])["JPEG"][0].endswith("(25)")


def test_baselines_stand_beside_the_network():
    found = robustness.section({"task": "single_label", "classes": ["a", "b"], **_measured("single_label")})[
        "baselines"
    ]
    assert [name for name, _ in found] == ["this network", "linear probe"]
    assert all(len(values) == 2 + len(CORRUPTIONS) and values[:3] == ["80.0%", "60.0%", "60.0%"] for _, values in found)


@pytest.mark.parametrize(("case", "several"), [("targets", True), ("angle", False)])
def test_the_scores_of_several_targets_are_said_to_be_in_deviations(tmp_path, case, several):
    metrics = run_folder(tmp_path, *CASES[case])
    metrics |= _measured("regression", "quick") | {"baseline": _baseline(tmp_path, metrics)}
    found = robustness.section(metrics)
    assert ("mean absolute error in deviations is 3" in found["sentences"][0]) == several
    assert all(("mean absolute error in deviations 2" in svg) == several for _, svg, _ in found["panels"])
    titles = [row[0] for row in baseline_section.section(metrics, tmp_path, lambda rows: rows)["overall"]]
    assert titles == ["mean absolute error" + " in deviations" * several, "loss"]


@pytest.mark.parametrize(("recorded", "title"), [({"score": "pinball"}, "pinball loss"), ({}, "absolute error")])
def test_the_score_of_a_quantile_is_what_was_measured(tmp_path, recorded, title):
    """An earlier version measured its absolute error."""
    metrics = run_folder(tmp_path, *CASES["angle"], quantile=0.9) | _measured("regression", "quick")
    metrics["robustness_summary"] |= recorded
    assert f"the mean {title} is 3" in robustness.section(metrics)["sentences"][0]
    report.write_report(tmp_path, metrics, lambda rows: np.zeros((len(rows), 8, 8, 3), np.uint8))
    assert f"Up: the mean {title}." in (tmp_path / "report.html").read_text()
