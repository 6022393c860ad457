"""The page of explanations: whole, from nowhere else, harmless names, small, no wider than a phone, and its words."""

import html
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from finished import HOSTILE
from pages import Page
from textures import texture

from kerasft.report import write_explain
from kerasft.report.explain_page import Shown, specific, verdict


def _difference(value: float, half: float = 0.01) -> dict:
    return {"maps": 0.5 + value, "others": 0.5, "value": value, "low": value - half, "high": value + half}


def _figures(deletion: float, insertion: float, kind: str, other: str) -> dict:
    both = {"deletion": _difference(deletion), "insertion": _difference(insertion)}
    return {"verdict": kind, "against_random": both, "verdict_other": other, "against_other_images": both}


def _values(task: str = "single_label", images: int = 3, asked: bool = False, **changes) -> dict:
    figure = {"value": -12.5} if task == "regression" else {"probability": 0.87}
    rows = [
        {
            "file": f"test/{HOSTILE[index % 5]}/{index}.jpg",
            "label": None if asked else HOSTILE[index % 5],
            "right": None if asked else False,
            "why": ["asked"] if asked else ["mistake", "checked"],
            "answer": HOSTILE[(index + 1) % 5],
            **figure,
            "neighbours": [{"file": f"{HOSTILE[k]}/x.jpg", "label": HOSTILE[k], "similarity": 0.9} for k in range(3)],
        }
        for index in range(images)
    ]
    check = {"n": 24, "steps": 8, "random_maps": 3, "least": 0.02, "seconds": 4.2}
    check["grad_cam"] = _figures(-0.2, 0.1, "better", "no_better")
    check["layer_cam"] = _figures(-0.001, 0.001, "no_better", "better")
    methods = {"grad_cam": {"title": "Grad-CAM", "layers": ["last"], "side": 7}}
    methods["layer_cam"] = {"title": "Layer-CAM", "layers": ["<b>early"], "side": 14}
    prototypes = (
        {} if task == "regression" else {name: [{"file": "p.jpg", "probability": 0.99}] * 3 for name in HOSTILE}
    )
    values = {"run": "runs/a b<i>", "task": task, "classes": HOSTILE, "methods": methods, "notes": [], "check": check}
    values |= {"images": rows, "prototypes": prototypes, "left_out": 0, "failed": [], "seconds": 9.1}
    return values | changes


def _written(folder: Path, values: dict) -> Page:
    pixels = np.asarray(texture(3, 224, 224))
    maps = {name: np.random.default_rng(0).random((each["side"],) * 2) for name, each in values["methods"].items()}
    of_label = None if values["task"] == "regression" or not maps else maps["grad_cam"]
    shown = [Shown(pixels, maps, of_label) for _ in values["images"]]
    prototypes = {name: [Shown(pixels, maps) for _ in rows] for name, rows in values["prototypes"].items()}
    write_explain(folder / "explain.html", values, shown, prototypes, lambda names: [pixels for _ in names])
    return Page((folder / "explain.html").read_text())


@pytest.mark.parametrize("task", ["single_label", "regression"])
def test_the_page_is_whole_and_takes_nothing_from_elsewhere(tmp_path, task):
    values = _values(task)
    page = _written(tmp_path, values)
    assert (page.open, page.loose) == ([], [])
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "form"}
    anchors = {"#" + attributes["id"] for _, attributes in page.tags if "id" in attributes}
    for address in page.addresses:
        assert address.startswith("data:image/jpeg;base64,") or address in anchors
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    # The image, two maps, three neighbours; the map of the label, and the prototypes.
    assert len(pictures) == (3 * 6 if task == "regression" else 3 * 7 + 5 * 3 * 3)
    assert all(attributes["alt"] for attributes in pictures)
    for name in HOSTILE[:3]:
        assert name in page.text["bdi"]
    said = " ".join(page.text["body"].split())
    assert ("−12.5" if task == "regression" else "87.0%") in said
    assert "these maps explain nothing" in said and "measurably better than random ones" in said
    assert "On 24 test images, drawn at random" in said


def test_the_largest_page_stays_below_3_mb(tmp_path):
    classes = [f"class {k}" for k in range(12)]
    prototypes = {name: [{"file": "p.jpg", "probability": 0.99}] * 3 for name in classes}
    _written(tmp_path, _values(images=24, asked=True, prototypes=prototypes))
    assert (tmp_path / "explain.html").stat().st_size < 3e6


def test_files_that_failed_or_were_left_out_are_named(tmp_path):
    failed = [{"file": HOSTILE[0], "error": "no image"}]
    page = _written(tmp_path, _values(images=0, failed=failed, left_out=5))
    said = " ".join(page.text["body"].split())
    assert "None of the files could be read." in said and "5 more files were left out" in said
    assert f"{HOSTILE[0]}: no image" in said


def test_a_network_without_maps_says_so(tmp_path):
    check = {"n": 24, "steps": 8, "random_maps": 3, "least": 0.02, "seconds": 0.1}
    page = _written(tmp_path, _values(methods={}, check=check, notes=["Grad-CAM has no map."]))
    said = " ".join(page.text["body"].split())
    assert "This network has no map of places" in said and "Grad-CAM has no map." in said
    assert "The check" not in page.text["h2"]


def test_the_words_follow_the_figures():
    better = verdict("Grad-CAM", _figures(-0.2, 0.1, "better", ""), "single_label")
    assert "the probability falls sooner" in better and "it rises sooner" in better
    assert "0.300 against 0.500; −0.200, 95% interval −0.210 to −0.190" in better
    partly = verdict("Grad-CAM", _figures(-0.2, 0.0, "partly", ""), "regression")
    assert (
        "one measure of the two" in partly and "the value falls sooner" in partly and "does not rise sooner" in partly
    )
    nothing = verdict("Layer-CAM", _figures(-0.01, 0.0, "no_better", ""), "single_label")
    assert nothing.startswith("Layer-CAM: these maps explain nothing.") and "does not fall sooner" in nothing


def test_the_page_is_no_wider_than_a_phone(tmp_path):
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
    if browser is None:
        pytest.skip("needs chromium, chromium-browser, google-chrome or chrome on the PATH")
    page = _written(tmp_path, _values(images=1))
    frame = f"""<iframe srcdoc="{html.escape(page.source)}" style="width: 390px; border: 0" onload="
        const page = this.contentDocument.documentElement;
        document.title = page.scrollWidth + ' of ' + page.clientWidth"></iframe>"""
    (tmp_path / "frame.html").write_text(f"<!DOCTYPE html><meta charset=utf-8><title></title>{frame}")
    line = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    line += ["--window-size=1400,900", "--dump-dom", (tmp_path / "frame.html").as_uri()]
    shown = subprocess.run(line, capture_output=True, text=True, timeout=120, check=True).stdout
    needed, window = map(int, re.search(r"<title>(\d+) of (\d+)</title>", shown).groups())
    assert needed == window


@pytest.mark.parametrize(
    ("verdict", "other", "said"),
    [("no_better", "no_better", ""), ("better", "no_better", "But the map"), ("better", None, "")],
)
def test_maps_that_explain_nothing_are_not_said_to_explain_something_else(verdict, other, said):
    figures = {"verdict": verdict} | ({"verdict_other": other} if other else {})
    found = specific(figures)
    assert found.startswith(said) and bool(found) == bool(said)
