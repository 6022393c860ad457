"""The page of a range test: `lr_find.html`, the loss at rising learning rates, and what that suggests."""

import math
from pathlib import Path
from typing import Any

from markupsafe import Markup

from kerasft import __version__
from kerasft.evidence import figures
from kerasft.report.report_page import environment
from kerasft.storage import run_folder

# The figure ends at this many times the loss of the first steps: where it blows up, its height tells nothing.
HIGHEST = 2.0


def write_lr_find(folder: Path, values: dict[str, Any]) -> None:
    """Writes `lr_find.html`.

    Args:
        folder: the run folder.
        values: the content of `lr_find.json`.
    """
    content = {"found": values, "curve": curve(values), "version": __version__, "folder": folder.as_posix()}
    content |= {"flags": (folder / "run.flags").read_text(), "shown": lambda rate: f"{rate:.2g}"}
    page = environment().get_template("lr_find.html.j2").render(content)
    run_folder.write(folder / "lr_find.html", lambda file: file.write(page.encode("utf-8", "replace")))


def curve(values: dict[str, Any]) -> Markup:
    """The loss by the logarithm of the rate: of each step, the mean around it, and the suggestion as a dashed line."""
    rates = [math.log10(rate) for rate in values["rates"]]
    lines = {kind: [math.nan if v is None else v for v in values[key]] for kind, key in _LINES.items()}
    ceiling = HIGHEST * max((value for value in lines["val"][:5] if math.isfinite(value)), default=1.0)
    low, high = figures.value_range(v for line in lines.values() for v in line if v <= ceiling)
    x, y = figures.plane((rates[0], max(rates[-1], rates[0] + 1)), (low, high))
    parts = []
    for kind, line in lines.items():
        points = [(x(rate), y(value)) if value <= high else None for rate, value in zip(rates, line)]
        parts += figures.polylines(kind, points)
    if values["suggestion"] is not None:
        place = x(math.log10(values["suggestion"]))
        parts.append(figures.tag("line", class_="kept", x1=place, x2=place, y1=figures.TOP, y2=y(low)))
    powers = range(math.ceil(rates[0] - 1e-9), math.floor(max(rates[-1], rates[0] + 1)) + 1)
    ticks = [(power, f"1e{power}".replace("-", "−") if power < -3 else f"{10.0**power:g}") for power in powers]
    return figures.svg(
        "Loss by learning rate", figures.axes(x, y, ticks, figures.marks(low, high), "learning rate"), *parts
    )


# The class of a line in the style sheet, and the key of its values.
_LINES = {"train": "losses", "val": "smoothed"}
