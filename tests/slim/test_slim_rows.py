"""The rows of slimming: a score and its interval are in the same units."""

from io import StringIO

import pytest
from finished import CASES, run_folder
from rich.console import Console

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
