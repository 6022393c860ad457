"""The figures of a proof where several targets have different units; drafts, and what formats may be chosen."""

import platform
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from kerasft.evaluation.scoring import Scorer
from kerasft.export import artefact, proof
from kerasft.export.portable import FORMATS, publish
from kerasft.settings.config import Config
from kerasft.settings.errors import UserError

# A width of about 1 and a mass of about 5,000, and how much they vary.
SCALE = np.array([0.3, 1000.0])


@pytest.fixture
def inputs():
    """What two targets in different units are proven with; the network is off by half a deviation of each."""
    labels = (np.array([1.0, 5000.0]) + SCALE * np.random.default_rng(0).normal(0, 1, (50, 2))).astype(np.float32)
    expected = (labels + 0.5 * SCALE).astype(np.float32)
    return publish.ProofInputs("regression", None, Scorer("regression", labels, SCALE), expected, 32, max_drop=0.005)


def test_the_score_of_several_targets_is_in_deviations(inputs):
    row = publish._proof_row(inputs.expected, inputs.expected, inputs)
    assert row["scaled_mae"] == pytest.approx(0.5, rel=1e-3) and "mae" not in row


def test_the_score_of_one_target_is_in_its_units(inputs):
    expected = inputs.expected[:, 1:]
    scorer = Scorer("regression", inputs.scorer.labels[:, 1:], SCALE[1:])
    one = publish.ProofInputs("regression", None, scorer, expected, 32, max_drop=0.005)
    row = publish._proof_row(expected, expected, one)
    assert row["mae"] == pytest.approx(500, rel=1e-3) and "scaled_mae" not in row


def test_where_no_image_has_a_label_the_score_is_not_known():
    expected = np.full((4, 2), 0.25, np.float32)
    scorer = Scorer("multi_label", np.zeros((4, 2), np.float32))
    inputs = publish.ProofInputs("multi_label", None, scorer, expected, 32, max_drop=0.005)
    row = publish._proof_row(expected, expected, inputs)
    assert row["map"] is None and row["loss"] > 0
    assert publish._objection(FORMATS["onnx"](), inputs, expected, row) == ""
    # Rounded weights give other answers, and nothing tells whether these are as good.
    rounded = publish._objection(FORMATS["onnx"](precision="int8"), inputs, expected, row)
    assert rounded == "no test image has a label, so it cannot be shown to score like the network"


@pytest.mark.parametrize(
    ("gap", "refused"), [((0, 0.01), False), ((0, 1.0), True), ((0.001, 0), True), ((0, np.nan), True)]
)
def test_each_target_is_proven_in_its_own_deviations(inputs, gap, refused):
    """Of a mass of 5,000 the hundredth is 1e-5 of its deviation; of a width of 1 the thousandth is 3e-3 of its own."""
    same = inputs.expected.astype(np.float64) + gap
    row = publish._proof_row(inputs.expected, same, inputs)
    worst = (np.array(gap) / SCALE).max()
    reason = publish._objection(FORMATS["onnx"](), inputs, inputs.expected, row)
    assert bool(reason) == refused == (not worst <= proof.TOLERANCE)
    assert row["scaled_max_abs_diff"] == pytest.approx(worst, rel=0.01, nan_ok=True)
    assert row["max_abs_diff"] == pytest.approx(np.max(gap), rel=0.01, nan_ok=True)
    assert not refused or ("differ by up to" in reason and "deviations (at most 0.0001)" in reason)


def test_a_refusal_says_of_how_many_images_it_is():
    """One image of 16 is a drop of 0.0625."""
    expected = np.eye(2, dtype=np.float32)[np.arange(16) % 2]
    found = expected.copy()
    found[0] = found[0, ::-1]
    scorer = Scorer("single_label", expected.argmax(-1))
    inputs = publish.ProofInputs("single_label", None, scorer, expected, 32, max_drop=0.005)
    row = publish._proof_row(found, found, inputs)
    reason = publish._objection(FORMATS["onnx"](precision="int8"), inputs, found, row)
    assert "is worse than the network's by 0.0625 (1 of 16 images; --max_drop=0.005)" in reason


def test_a_draft_is_of_one_process(tmp_path, inputs, monkeypatch):
    """Two processes that write one artefact do not write into one draft; those of killed ones are removed."""
    dead = tmp_path / f".draft-{platform.node()}-{2**22 + 1}" / "onnx"
    dead.mkdir(parents=True)
    places = []

    def write(source, draft):
        places.append(draft)
        raise ValueError("not now")

    made = replace(FORMATS["onnx"](), write=write)
    network = SimpleNamespace(size=32)
    answer = artefact.Answer("run", ("a", "b"))
    monkeypatch.setattr(publish, "_predict", lambda *_: None)
    row = publish.publish([made], network, answer, None, inputs, tmp_path)[0]
    assert not row["published"] and "not now" in row["reason"]
    assert places == [artefact.draft_path(tmp_path) / "onnx"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("chosen", ["onnx | onnx", "savedmodel | litert | litert(precision=float32)"])
def test_a_format_is_named_once(chosen, monkeypatch):
    monkeypatch.setattr(publish.importlib.util, "find_spec", lambda name: name)
    with pytest.raises(UserError, match=r"--export: must name each format once\. Received: '(onnx|litert)' twice"):
        publish.parse_formats(Config(export=chosen).specs("export"))
    assert len(publish.parse_formats(Config(export="litert | litert(precision=int8)").specs("export"))) == 2


def test_a_quantile_is_gated_by_its_pinball_loss():
    """A file that slips to the median has the lower absolute error."""
    labels = (10 * np.random.default_rng(0).normal(size=(300, 1))).astype(np.float32)
    expected, median = np.full_like(labels, 12.816), np.zeros_like(labels)
    scorer = Scorer("regression", labels, np.array([10.0]), error="pinball", quantile=0.9)
    inputs = publish.ProofInputs("regression", None, scorer, expected, 32, max_drop=0.005)
    made = FORMATS["onnx"](precision="int8")
    row = publish._proof_row(median, median, inputs)
    drop = scorer.loss(median) - scorer.loss(expected)
    reason = publish._objection(made, inputs, median, row)
    assert row["pinball"] == pytest.approx(10 * scorer.loss(median)) and "mae" not in row
    assert f"mean pinball loss {row['pinball']:.4f} is worse than the network's by {drop:.4f} deviations (300" in reason
    assert publish._objection(made, replace(inputs, expected=median), expected, row) == ""
