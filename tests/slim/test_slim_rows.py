"""The rows of slimming: a score and its interval are in the same units."""

from io import StringIO

import numpy as np
import pytest
from finished import CASES, run_folder
from rich.console import Console

from kerasft.evaluation.pinball import pinball
from kerasft.slim import slim_rows


@pytest.mark.parametrize(("case", "score"), [("targets", "scaled_mae"), ("angle", "mae"), ("two", "accuracy")])
def test_a_score_is_in_its_interval(tmp_path, case, score):
    metrics = run_folder(tmp_path / "run", *CASES[case])
    found = slim_rows.row("run", "", tmp_path / "run", metrics)
    assert found[score] == metrics["test"][score]
    assert found["interval"][0] < found[score] < found["interval"][1]
    assert ("mae" in found) == (score == "mae")
    slim_rows.add_differences([found], metrics)
    text = StringIO()
    Console(file=text, width=200).print(slim_rows.table([found], score))
    assert ("in deviations" in text.getvalue()) == (case == "targets")


def test_a_quantile_is_judged_by_its_pinball_loss(tmp_path):
    """A step that slips to the median of the errors lowers the absolute error."""
    first, step = (run_folder(tmp_path / name, *CASES["angle"], quantile=0.9) for name in ("run", "step"))
    with np.load(tmp_path / "run/predictions.npz") as stored:
        arrays = dict(stored)
    gaps = arrays["labels"] - arrays["values"]
    for name, metrics, share in (("run", first, 0.9), ("step", step, 0.5)):
        values = (arrays["values"] + np.quantile(gaps, share)).astype(np.float32)
        np.savez(tmp_path / name / "predictions.npz", **arrays | {"values": values})
        metrics["test"]["pinball"] = float(pinball(arrays["labels"] - values, 0.9).mean())
    rows = [slim_rows.row(name, "", tmp_path / name, one) for name, one in (("run", first), ("step", step))]
    assert all(row["interval"][0] < row["pinball"] < row["interval"][1] and "mae" not in row for row in rows)
    slim_rows.add_differences(rows, first)
    assert rows[1]["difference"]["interval"][0] > 0
    assert rows[1]["difference"]["value"] == pytest.approx(rows[1]["pinball"] - rows[0]["pinball"], rel=1e-3)
