"""The model card: whole in every task, harmless names, valid YAML, nothing made up."""

import numpy as np
import pytest
import yaml
from finished import CASES, HOSTILE, run_folder

from kerasft.console.wording import percent
from kerasft.evaluation import intervals
from kerasft.report import model_card


def _card(folder, case, **more) -> tuple[str, dict, dict]:
    """Text and YAML of a card, and the metrics that it was made from."""
    metrics = run_folder(folder, *CASES[case], **more)
    model_card.write(folder, metrics, [folder / "one", folder / "two"])
    text = (folder / "one" / model_card.MODEL_CARD).read_text()
    assert (folder / "two" / model_card.MODEL_CARD).read_text() == text
    assert sorted(path.name for path in (folder / "one").iterdir()) == [model_card.MODEL_CARD]
    return text, yaml.safe_load(text.split("---\n")[1]), metrics


@pytest.mark.parametrize("case", CASES)
def test_a_card_has_its_sections_and_tables_of_one_width(tmp_path, case):
    text, head, metrics = _card(tmp_path, case, findings=7)
    titles = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    assert titles == [
        "What it does",
        "Intended use",
        "Training data",
        "Training procedure",
        "Evaluation",
        "Costs",
        "Limits",
        "How to use",
    ]
    assert head["library_name"] == "keras" and head["datasets"] == ["my set"]
    assert head.get("pipeline_tag") == (None if metrics["task"] == "regression" else "image-classification")
    (result,) = head["model-index"][0]["results"]
    assert {row["type"]: row["value"] for row in result["metrics"]}["loss"] == metrics["test"]["loss"]
    for table in (block.splitlines() for block in text.split("\n\n") if block.lstrip().startswith("| ")):
        rows = [line for line in table if line.startswith("|")]
        widths = {line.replace("\\|", "").count("|") for line in rows}
        assert len(widths) == 1 and len(rows) > 2, table
    assert "7 × corrupt: left out" in text
    assert "- Multiplications an image: 5,678,900" in text and "- SavedModel on disk: 2.5 MB" in text


def test_a_card_says_the_interval_of_the_test_score(tmp_path):
    text, _, metrics = _card(tmp_path, "two")
    with np.load(tmp_path / "predictions.npz") as arrays:
        right = int((arrays["probabilities"].argmax(-1) == arrays["labels"]).sum())
    low, high = intervals.wilson(right, metrics["test"]["n"])
    assert f"{percent(right / metrics['test']['n'])} ({percent(low)} to {percent(high)})" in text


@pytest.mark.parametrize("case", ["hostile", "hostile_labels", "targets"])
def test_names_bring_no_markup_of_their_own(tmp_path, case):
    text, _, _ = _card(tmp_path, case, findings=3)
    body = text.split("```python")[0]
    assert "<script" not in body.replace("\\<", "") and "<img" not in body.replace("\\<", "")
    assert model_card._escape(HOSTILE[0]) in body


def test_a_card_says_what_is_not_known(tmp_path):
    text, _, metrics = _card(tmp_path, "ten", n=60)
    assert text.count("**not stated**") == 5
    rows = metrics["test"]["per_class"].items()
    few = [name for name, row in rows if 0 < row["n"] < 30]
    assert all(f"- {name}: {metrics['test']['per_class'][name]['n']} test image" in text for name in few) and few


def test_a_run_without_measured_costs_has_a_card(tmp_path):
    metrics = run_folder(tmp_path, *CASES["two"])
    del metrics["cost"], metrics["baselines"]
    text = model_card.render(tmp_path, metrics)
    assert "Multiplications" not in text and "What frozen features" not in text


@pytest.mark.parametrize(("case", "key"), [("targets", "scaled_mae"), ("angle", "mae")])
def test_the_error_of_several_targets_is_in_deviations(tmp_path, case, key):
    text, head, metrics = _card(tmp_path, case)
    found = head["model-index"][0]["results"][0]["metrics"][0]
    assert (found["type"], found["value"]) == ("mae", metrics["test"][key])
    assert found.get("name", "") == ("mean absolute error in deviations" if case == "targets" else "")
    assert ("| Baseline | Mean absolute error in deviations |" in text) == (case == "targets")


def test_a_card_says_what_the_run_did_beyond_training(tmp_path):
    """Unknown images, sets of labels, a teacher, and surgery."""
    text, _, metrics = _card(tmp_path, "two")
    assert "The model gives an answer for every image, also for one that shows none" in text
    assert "only the SavedModel" not in text
    abstain = {"method": "energy", "threshold": 0.5, "keep": 0.95, "n": 150, "kept": 0.9}
    coverage = {"asked": 0.9, "observed": 0.91, "n": 40, "calibrated_on": 75, "mean_set_size": 1.2, "empty_sets": 0.1}
    members = [{"path": "runs/large", "learned_test_images": 3}]
    teacher = {"members": members, "val_loss": 0.2, "val_accuracy": 0.9, "weight": 0.5}
    surgery = [{"surgery": "prune(0.3)", "parameters": [2, 1], "macs": [2, 1]}]
    metrics |= {"abstain": abstain, "coverage": coverage}
    metrics["settled"] |= {"teacher": teacher | {"unlabelled": 40}, "surgery": surgery}
    text = model_card.render(tmp_path, metrics)
    assert "output `known` of the SavedModel says whether" in text and "the other formats do not have it" in text
    assert "only the SavedModel has these outputs" in text and "also for one that shows none" not in text
    assert "An image counts as unknown if its novelty is above" in text and "A set has 1.20 labels" in text
    assert "- The teacher runs/large has learned 3 test images, so the test score may be too optimistic.\n" in text
    assert (
        "runs/large has learned 3 test images of this run." in text
        and "40 further images" in text
        and "`prune(0.3)`" in text
    )


def test_the_card_of_a_quantile_says_so_and_has_its_pinball_loss(tmp_path):
    text, head, metrics = _card(tmp_path, "angle", quantile=0.9)
    assert "Each is the quantile 0.9: 90.0% of the true values are to be at or below it." in text
    assert head["metrics"] == ["pinball"] and "ean absolute error" not in text and "RMSE" not in text
    (first, _) = head["model-index"][0]["results"][0]["metrics"]
    assert first == {"type": "pinball", "value": metrics["test"]["pinball"]}
    assert (
        "| Mean pinball loss (test interval, 95%) |" in text
        and "| Baseline | Mean pinball loss |\n| --- | ---: |\n| linear probe | 0.750 |\n" in text
    )
    assert "| Name | Pinball loss | Coverage |" in text
