"""What is said of suspects, by task."""

import numpy as np
import pytest

from kerasft.data.splits import Split
from kerasft.probes import probe_findings
from kerasft.probes.suspects import Suspects

NONE = np.zeros(3, bool)


def split(labels: list, dtype: type) -> Split:
    return Split(np.array(["a.png", "b.png", "c.png"]), np.array(labels, dtype), lambda index: b"", None)


def suspects(scores: list[float], flagged: list[bool]) -> Suspects:
    return Suspects(np.array(scores), np.array(flagged), np.zeros(3), NONE)


@pytest.mark.parametrize(
    ("task", "labels", "predicted", "detail", "suggested"),
    [
        (
            "single_label",
            [0, 1, 0],
            [[0.9, 0.1], [0.98, 0.02], [0.5, 0.5]],
            "labelled dog, and looks like cat (98%, against 2%)",
            "cat",
        ),
        (
            "multi_label",
            [[0, 0], [1, 1], [0, 1]],
            [[0.1, 0.1], [0.97, 0.02], [0.0, 1.0]],
            "has the label dog, whose probability is 2%",
            "cat",
        ),
        (
            "multi_label",
            [[0, 0], [1, 0], [0, 1]],
            [[0.1, 0.1], [np.nan, 0.98], [0.0, 1.0]],
            "lacks the label dog, whose probability is 98%",
            "cat|dog",
        ),
        (
            "regression",
            [[1.5, 2], [3, 1e5], [1, 1]],
            [[1.5, 2], [3, 20.25], [1, 1]],
            "labelled cat=3, dog=1e+05, and looks like cat=3, dog=20.25",
            "cat=3, dog=20.25",
        ),
    ],
)
def test_the_finding_says_why_and_suggests_another_label(task, labels, predicted, detail, suggested):
    given = split(labels, np.int32 if task == "single_label" else np.float32)
    found = probe_findings.describe_labels(
        given, ("cat", "dog"), task, np.array(predicted), suspects([0.1, 0.96, 0.5], [False, True, False])
    )
    assert [tuple(one) for one in found] == [("b.png", "suspect_label", "warn", detail, 0.96, suggested, "")]


def test_the_most_suspicious_comes_first():
    given = split([0, 1, 0], np.int32)
    found = suspects([0.96, 0.99, 0.97], [True, True, True])
    named = probe_findings.describe_labels(given, ("cat", "dog"), "single_label", np.full((3, 2), 0.5), found)
    assert [one.path for one in named] == ["b.png", "c.png", "a.png"]
    outliers = Suspects(np.zeros(3), NONE, np.array([0.76, 0.1, 0.9]), np.array([True, False, True]))
    assert [one.path for one in probe_findings.describe_outliers(given, outliers)] == ["c.png", "a.png"]
