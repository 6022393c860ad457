"""The sentences under the headline: true of saved backbones, of few validation images, and of the export."""

import pytest
from finished import CASES, run_folder

from kerasft.report import model_card, summary

COUNTS = {"train": {"ants": 5, "bees": 5}}


def _sentences(metrics: dict, **settled: object) -> list[str]:
    metrics["settled"] |= settled
    return summary.sentences({"backbone": "MobileNet", "weights": "imagenet"}, metrics, COUNTS)


@pytest.mark.parametrize(
    ("backbone", "chosen", "words"),
    [
        ("MobileNet", "imagenet", "ImageNet weights"),
        ("mine.keras", "imagenet", "its own weights"),
        ("mine.h5", "none", "its own weights"),
        ("hub:vit", "imagenet", "its own weights"),
        ("hub:vit", "none", "random weights"),
        ("MobileNet", "folder/mine.weights.h5", "weights from mine.weights.h5"),
    ],
)
def test_a_backbone_is_not_said_to_have_weights_of_others(tmp_path, backbone, chosen, words):
    metrics = run_folder(tmp_path, *CASES["two"])
    assert f"{backbone} with {words} learned" in _sentences(metrics, backbone=backbone, weights=chosen)[0]
    assert f"- Backbone: `{backbone}` with {words}\n" in model_card.render(tmp_path, metrics)


def test_what_few_validation_images_cannot_judge_is_not_said_to_have_helped(tmp_path):
    metrics = run_folder(tmp_path, *CASES["two"])
    assert "head was solved, and 1 of 2 training phases helped on validation and was kept." in _sentences(metrics)[0]
    metrics["val"]["n"], metrics["phases"] = 2, [metrics["phases"][0] | {"epochs": 4}]
    said = _sentences(metrics, dropped_phases=["all(epochs=4)"])[0]
    rule = "2 validation images cannot judge a phase (needed: 5), so what was trained is kept as it is"
    assert said.endswith(f"; {rule}; not trained: all(epochs=4).") and "helped" not in said
    card = model_card.render(tmp_path, metrics)
    assert "| kept, not judged |" in card and "`all(epochs=4)`" in card


def test_only_phases_that_could_be_undone_are_counted(tmp_path):
    metrics = run_folder(tmp_path, *CASES["two"])
    head, undone, _ = metrics["phases"]
    metrics["phases"] = [head, undone]
    said = _sentences(metrics)[0]
    assert said.endswith("; the head was solved, and no training phase helped on validation, so all were undone.")
    metrics["phases"] = [head]
    assert _sentences(metrics)[0].endswith("; the head was solved.")
    metrics["phases"] = [head | {"accepted": False, "share": 0.0}]
    assert _sentences(metrics)[0].endswith("; nothing was trained.")


def test_the_numbers_of_the_export_are_equal_within_what_was_measured(tmp_path):
    metrics = run_folder(tmp_path, *CASES["two"])
    metrics["export"]["max_abs_diff"] = 9.4e-5
    assert "its numbers are the same within 9.4e-05." in _sentences(metrics)[1]


@pytest.mark.parametrize(
    ("case", "proof", "said"),
    [
        ("two", {"top1_agreement": 1.0}, True),
        ("labels", {"top1_agreement": 1.0}, False),
        ("labels", {"top1_agreement": 1.0, "label_agreement": 0.99}, False),
        ("labels", {"top1_agreement": 1.0, "label_agreement": 1.0}, True),
        ("angle", {}, False),
    ],
)
def test_the_labels_of_the_export_are_said_to_be_the_same_only_if_all_were_compared(tmp_path, case, proof, said):
    metrics = run_folder(tmp_path, *CASES[case])
    metrics["export"] = {"path": "a/b/1", "max_abs_diff": 0.0, "n": 150} | proof
    assert ("and gave the same labels" in _sentences(metrics)[1]) == said
