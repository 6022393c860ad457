"""Which artefact is the cheapest of the good ones, the Pareto front, and the page that shows them."""

import re

import pytest
from pages import Page

from kerasft.report import compress_page


def row(number: int, artefact: str, accuracy: float, rate: float | None, size: int, published: bool = True) -> dict:
    made = {
        "number": number,
        "artefact": artefact,
        "accuracy": accuracy,
        "interval": [accuracy - 0.0392, accuracy + 0.0392],
        "loss": 0.3,
        "n": 400,
        "agreement": 0.99,
        "bytes": size,
        "published": published,
        "reason": "" if published else "accuracy is worse",
    }
    return made | ({"images_per_second": {"1": rate, "32": 2 * rate}} if rate else {})


# The standard error of the best is 0.02.
ROWS = [
    row(1, "savedmodel", 0.900, 100.0, 2000),
    row(2, "onnx", 0.900, 400.0, 900),
    row(3, "litert(precision=int8)", 0.885, 800.0, 300),
    row(4, "litert(precision=dynamic)", 0.870, 1000.0, 280),
    row(5, "openvino", 0.910, 300.0, 950),
    row(6, "onnx(precision=int8)", 0.895, 2000.0, 100, published=False),
]


@pytest.mark.parametrize(("cost", "front"), [("seconds", [4, 3, 2, 5]), ("bytes", [4, 3, 2, 5])])
def test_the_front_has_what_nothing_else_beats(cost, front):
    assert [one["number"] for one in compress_page.pareto(ROWS[:5], "accuracy", cost)] == front
    # One that is both better and cheaper than others leaves them out.
    assert [one["number"] for one in compress_page.pareto(ROWS, "accuracy", cost)] == [6, 2, 5]


def test_less_error_is_better():
    rows = [{"mae": 1.0, "bytes": 10}, {"mae": 2.0, "bytes": 5}, {"mae": 3.0, "bytes": 7}]
    assert compress_page.pareto(rows, "mae", "bytes") == [rows[1], rows[0]]


def test_the_cheapest_is_within_one_standard_error_of_the_best():
    # openvino has 0.910, so 0.890 is good enough: litert int8 with 0.885 is not, and onnx int8 was not published.
    found = compress_page.fastest_and_smallest(ROWS, "accuracy")
    assert found["standard_error"] == pytest.approx(0.02, abs=1e-4)
    assert (found["best"], found["fastest"], found["smallest"]) == ("openvino", "onnx", "onnx")
    untimed = [{key: value for key, value in one.items() if key != "images_per_second"} for one in ROWS]
    assert compress_page.fastest_and_smallest(untimed, "accuracy")["fastest"] is None
    assert compress_page.fastest_and_smallest([one | {"interval": None} for one in ROWS], "accuracy") is None
    perfect = {**ROWS[0], "artefact": "perfect", "accuracy": 1.0, "interval": None}
    assert compress_page.fastest_and_smallest([*ROWS, perfect], "accuracy") is None
    nearer = [ROWS[0], ROWS[1], ROWS[2] | {"accuracy": 0.891}, ROWS[4] | {"bytes": 50}]
    found = compress_page.fastest_and_smallest(nearer, "accuracy")
    assert (found["fastest"], found["smallest"]) == ("litert(precision=int8)", "openvino")
    text = compress_page.sentence({"rows": nearer, "score": "accuracy", "cheapest": found})
    assert text.startswith(
        "litert(precision=int8) is the fastest (800 images/s), and openvino the smallest (0 kB), within"
    )


@pytest.mark.parametrize(("low", "high"), [(22, 45), (0.3, 0.4), (3, 70), (1, 9000)])
def test_a_logarithmic_axis_has_numbers(low, high):
    marks = compress_page._marks(low, high)
    assert 2 <= len(marks) <= 7 and all(low <= value <= high for value, _ in marks)


@pytest.mark.parametrize("timed", [True, False])
def test_the_page_is_whole_and_escaped(tmp_path, timed):
    (tmp_path / "run.flags").write_text("--data=folder:<b>")
    rows = [{k: v for k, v in one.items() if timed or k != "images_per_second"} for one in ROWS]
    failed = {"number": 7, "artefact": "litert", "path": "x", "published": False, "reason": "no <operator>"}
    # Which a slimmer network was made of is named by its number.
    rows[4] |= {"artefact": "flops-0.5/2-prune", "parent": rows[2]["artefact"], "surgery": "prune(<0.1>)"}
    values = {"rows": [*rows, failed], "score": "accuracy", "name": "<i>photos", "timed": timed, "max_drop": 0.005}
    values["cheapest"] = compress_page.fastest_and_smallest(rows, "accuracy")
    compress_page.write_compress(tmp_path, values)
    page = Page((tmp_path / "compress.html").read_text())
    assert (page.open, page.loose, page.addresses) == ([], [], [])
    assert "<i>photos" in page.text["h1"] and "no <operator>" in page.text["li"]
    assert "prune(<0.1>), made of 3" in page.text["th"]
    assert "One network in 5 forms, and 1 slimmer network made of it" in page.text["p"]
    assert page.source.count("<svg") == (2 if timed else 1)
    assert ("--notimings" in page.source) == (not timed)
    assert page.source.count("<circle") == (12 if timed else 6)


def test_where_no_test_image_has_a_label_nothing_is_the_cheapest_and_the_page_is_written(tmp_path):
    (tmp_path / "run.flags").write_text("")
    rows = [{**one, "accuracy": None, "interval": None} for one in ROWS]
    assert compress_page.fastest_and_smallest(rows, "accuracy") is None
    values = {"rows": rows, "score": "accuracy", "name": "x", "timed": True, "max_drop": 0.005, "cheapest": None}
    compress_page.write_compress(tmp_path, values)
    page = Page((tmp_path / "compress.html").read_text())
    assert "One network in 6 forms" in page.text["p"] and "<svg" not in page.source and "–" in page.text["td"]


def test_the_numbers_of_crowded_points_are_inside_the_figure():
    """Four of the same score at the top: their numbers go below them where nothing is free above."""
    rows = [row(number, f"onnx{number}", 0.9, None, 1_600_000 + 1000 * number) for number in range(4)]
    svg = compress_page._scatter(rows, "accuracy", "bytes", "kB", "x")
    heights = [
        float(y) for y in re.findall(r'class="label" x="[0-9.]+" y="(-?[0-9.]+)" text-anchor="middle">[0-3]<', svg)
    ]
    assert len(heights) == 4 and min(heights) >= 10
