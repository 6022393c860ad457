"""The page of explanations, `explain.html`: what is measured of the maps, the maps, and the nearest training images."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kerasft import __version__
from kerasft.console.wording import number, percent, signed
from kerasft.evaluation.faithfulness import MIN_DIFFERENCE, is_measurable
from kerasft.evidence.heat_map import overlay
from kerasft.evidence.thumbnails import to_data_uri
from kerasft.report import usage
from kerasft.report.report_page import environment
from kerasft.storage import run_folder

# Longer sides of the pictures, in pixels: an image with its maps, and a neighbour.
MAP_SIZE, NEIGHBOUR_SIZE = 144, 72


class Shown(NamedTuple):
    """An image of the page.

    Attributes:
        pixels: uint8 [S, S, 3].
        maps: of what was answered, float [G, G], by method.
        of_label: the first method's map of the label, where another class was answered; else None.
    """

    pixels: np.ndarray
    maps: dict[str, np.ndarray]
    of_label: np.ndarray | None = None


def write_explain(
    path: Path,
    values: dict[str, Any],
    shown: list[Shown],
    prototypes: dict[str, list[Shown]],
    by_path: Callable[[list[str]], list[np.ndarray]],
) -> None:
    """Writes the page.

    Args:
        path: of the page.
        values: the content of `explain.json`.
        shown: the images, in the order of `values["images"]`.
        prototypes: in the order of `values["prototypes"]`.
        by_path: from names of training images to images, uint8 [S, S, 3] each.
    """
    titles = {name: method["title"] for name, method in values["methods"].items()}
    pairs = list(zip(values["images"], shown))
    asked = [pair for pair in pairs if "asked" in pair[0]["why"]]
    cards = asked or [pair for pair in pairs if "mistake" in pair[0]["why"]]
    content = {
        "found": values,
        "asked": bool(asked or values["failed"]),
        "verdicts": [
            (title, values["check"][name], verdict(title, values["check"][name], values["task"]))
            for name, title in titles.items()
        ],
        "rows": [row for name, title in titles.items() for row in _rows(title, values["check"][name])],
        "cards": [_card(row, one, titles, values["task"], by_path) for row, one in cards],
        "prototypes": [
            (name, [_pictures(one, titles, name) | row for row, one in zip(rows, prototypes[name])])
            for name, rows in values["prototypes"].items()
        ],
        "specific": specific,
        "scored": "standardised value" if values["task"] == "regression" else "probability",
        "command": f"{usage.explaining(Path(values['run']))} --images='new/**/*.jpg'",
        "version": __version__,
    }
    page = environment().get_template("explain.html.j2").render(content)
    # A file name that is no valid Unicode is shown with question marks.
    run_folder.write(path, lambda file: file.write(page.encode("utf-8", "replace")))


def verdict(title: str, figures: dict[str, Any], task: str) -> str:
    """What the check says of a method, in words.

    Args:
        title: of the method.
        figures: of `heat_map_check.check`, for this method.
        task: what is scored is a probability, or under `regression` a standardised value.
    """
    scored = "value" if task == "regression" else "probability"
    deletion, insertion = (figures["against_random"][name] for name in ("deletion", "insertion"))
    says = {
        "better": "the maps are measurably better than random ones.",
        "partly": "the maps are better than random ones by one measure of the two.",
        "no_better": f"these maps explain nothing. They are no better than random ones by {MIN_DIFFERENCE} or more.",
    }[figures["verdict"]]
    falls = "falls sooner" if _counts(deletion, -1) else "does not fall sooner"
    rises = "rises sooner" if _counts(insertion, 1) else "does not rise sooner"
    return (
        f"{title}: {says} Without the marked places the {scored} {falls} than without random ones ({_against(deletion)}). "
        f"With the marked places alone it {rises} ({_against(insertion)})."
    )


def specific(figures: dict[str, Any]) -> str:
    """What the comparison with the maps of other images says; empty without one, and of maps that explain nothing anyway."""
    if figures["verdict"] == figures.get("verdict_other") == "no_better":
        return ""
    return {
        "better": "They fit their own image better than the map of another image does, by both measures.",
        "partly": "They fit their own image better than the map of another image does by one measure of the two.",
        "no_better": "But the map of another image does as well: they may only say where the objects usually are.",
    }.get(figures.get("verdict_other", ""), "")


def _counts(row: dict[str, float | None], sign: int) -> bool:
    return is_measurable(row["value"], row["low"], row["high"], sign)


def _against(row: dict[str, float | None]) -> str:
    """A mean with its difference and interval."""
    return f"{number(row['maps'])} against {number(row['others'])}; {_interval(row)}"


def _interval(row: dict[str, float | None]) -> str:
    value, low, high = (signed(row[name], "{:.3f}".format) for name in ("value", "low", "high"))
    return (
        f"{value}, too few images for an interval" if row["low"] is None else f"{value}, 95% interval {low} to {high}"
    )


def _rows(title: str, figures: dict[str, Any]) -> list[tuple[str, ...]]:
    """Rows of the table: what is compared, the means, and the difference with its interval."""
    rows = []
    for key, others in (("against_random", "random maps"), ("against_other_images", "maps of other images")):
        for measure, row in figures.get(key, {}).items():
            cells = (number(row["maps"]), number(row["others"]), _interval(row).replace("95% interval ", ""))
            rows.append((f"{title}, {measure}", f"against {others}", *cells))
    return rows


def _card(
    row: dict[str, Any], one: Shown, titles: dict[str, str], task: str, by_path: Callable[[list[str]], list[np.ndarray]]
) -> dict[str, Any]:
    """An image with its maps, what was answered, and its neighbours."""
    near = row["neighbours"]
    images = by_path([each["file"] for each in near])
    figure = number(row["value"]) if task == "regression" else percent(row["probability"])
    card = _pictures(one, titles, row["answer"]) | {"file": row["file"], "label": row["label"], "answer": row["answer"]}
    if one.of_label is not None:
        title = f"{next(iter(titles.values()))} of “{row['label']}”"
        card["maps"].append((title, to_data_uri(overlay(one.pixels, one.of_label), MAP_SIZE)))
    card |= {
        "figure": figure,
        "neighbours": [each | {"image": to_data_uri(p, NEIGHBOUR_SIZE)} for each, p in zip(near, images)],
    }
    return card


def _pictures(one: Shown, titles: dict[str, str], answer: str) -> dict[str, Any]:
    """The pictures of an image as data URIs: itself, and its maps with their titles."""
    several = len(one.maps) > 1 or one.of_label is not None
    maps = [
        (
            f"{title} of “{answer}”" if one.of_label is not None else title,
            to_data_uri(overlay(one.pixels, one.maps[name]), MAP_SIZE),
        )
        for name, title in titles.items()
    ]
    return {"image": to_data_uri(one.pixels, MAP_SIZE), "maps": maps, "several": several}
