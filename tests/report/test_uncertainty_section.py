"""What the report says of `--abstain` and `--coverage`: what was observed, and no promise."""

from kerasft.report import uncertainty_section


def test_intervals_are_not_said_to_hold_all_values():
    width = {"angle": 2.0}
    found = {"asked": 0.9, "n": 40, "calibrated_on": 75, "by_target": {"angle": 0.85}, "width": width}
    (said,) = uncertainty_section.sentences({"coverage": found})
    assert said.endswith("How often the intervals hold the true values: angle: 85.0% of 40 test images, width 2.00.")
    assert "The intervals hold" not in said
