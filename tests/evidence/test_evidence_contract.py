"""What every piece of evidence keeps: a name, figures that JSON takes, and no image beyond those that it shows."""

import json
from dataclasses import replace

import numpy as np
import pytest

from kerasft.evidence import EVIDENCE, predictions
from kerasft.evidence.predictions import Section

TASKS = ("single_label", "multi_label", "regression")


def example(task: str, count: int = 60, classes: int = 3) -> predictions.Predictions:
    """Predictions that are often wrong."""
    rng = np.random.default_rng(0)
    names = [f"<b>{place}</b>" for place in range(classes)]
    arrays = {"ids": np.array([f"{place}.jpg" for place in range(count)])}
    if task == "single_label":
        arrays["labels"] = rng.integers(0, classes, count).astype(np.int32)
        logits = rng.normal(0, 1, (count, classes)) + np.eye(classes)[arrays["labels"]]
        arrays["probabilities"] = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    elif task == "multi_label":
        arrays["labels"] = (rng.random((count, classes)) < 0.4).astype(np.float32)
        arrays["probabilities"] = 1 / (1 + np.exp(-rng.normal(0, 2, (count, classes)) - 2 * arrays["labels"] + 1))
        arrays["thresholds"] = np.full(classes, 0.5, np.float32)
    else:
        arrays["labels"] = rng.normal(5, 2, (count, classes)).astype(np.float32)
        arrays["values"] = arrays["labels"] + rng.normal(0, 1, (count, classes)).astype(np.float32)
    return predictions.from_arrays(task, names, arrays, lambda rows: np.zeros((len(rows), 8, 8, 3), np.uint8))


def perfect(task: str) -> predictions.Predictions:
    """Predictions without a mistake, of examples that are all alike."""
    given = example(task, 4)
    labels = np.zeros_like(given.labels)
    outputs = np.eye(3)[labels] if task == "single_label" else labels.astype(float)
    return replace(given, labels=labels, outputs=outputs)


def sections(given: predictions.Predictions) -> dict[str, Section]:
    return {name: evidence(given) for name, evidence in EVIDENCE.items()}


@pytest.mark.parametrize("made", [example, perfect])
@pytest.mark.parametrize("task", TASKS)
def test_a_section_has_its_name_and_figures_that_json_takes(task, made):
    for name, section in sections(made(task)).items():
        assert section.name == name
        # NaN is no JSON: it stands for what was not measured, and that is left out.
        assert json.loads(json.dumps(section.figures, allow_nan=False)) == section.figures


@pytest.mark.parametrize("task", TASKS)
def test_no_two_sections_fill_the_same_place_of_the_template(task):
    keys = [key for section in sections(example(task)).values() for key in section.context]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("name", EVIDENCE)
def test_every_task_fills_the_same_places(name):
    assert len({tuple(EVIDENCE[name](example(task)).context) for task in TASKS}) == 1


@pytest.mark.parametrize("name", EVIDENCE)
@pytest.mark.parametrize("task", TASKS)
def test_no_image_is_read_beyond_those_that_are_shown(task, name):
    read = []

    def thumbnails(rows: np.ndarray) -> np.ndarray:
        read.extend(rows)
        return np.zeros((len(rows), 8, 8, 3), np.uint8)

    section = EVIDENCE[name](replace(example(task), images=thumbnails))
    assert len(read) == str(section.context).count("data:image/") == (12 if name == "mistakes" else 0)
    assert len(set(read)) == len(read)
    EVIDENCE[name](replace(perfect(task), images=lambda rows: pytest.fail("nothing is to be shown")))


@pytest.mark.parametrize("task", TASKS)
def test_evidence_changes_no_predictions(task):
    given = example(task)
    before = [np.copy(part) for part in (given.labels, given.outputs)]
    sections(given)
    for part, kept in zip((given.labels, given.outputs), before):
        np.testing.assert_array_equal(part, kept)


@pytest.mark.parametrize("task", TASKS)
def test_names_of_classes_are_escaped_in_figures(task):
    for section in sections(example(task)).values():
        assert not any("<b>" in value for value in section.context.values() if hasattr(value, "__html__"))


def test_calibration_compares_predicted_and_observed():
    given = example("single_label")
    found = EVIDENCE["calibration"](given).figures
    assert found["promised"] == pytest.approx(given.outputs.max(-1).mean())
    assert found["observed"] == pytest.approx((given.outputs.argmax(-1) == given.labels).mean())
    assert sum(row["n"] for row in found["bins"]) == len(given.labels)
