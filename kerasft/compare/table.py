"""What a comparison prints: a line for each entry, and two tables at its end."""

from typing import Any

from rich.table import Table
from rich.text import Text

from kerasft.compare.rows import FINISHED, Row
from kerasft.console import console
from kerasft.console.wording import duration
from kerasft.evaluation.score_names import recorded_score
from kerasft.report.compare_page import cells
from kerasft.settings.errors import printable

# The columns of the two tables, by their titles in `cells`. Long names stand in the first one alone.
REACHED = ("#", "strategy", "score", "difference", "loss", "loss difference")
COSTS = ("#", "kept", "trained", "stored", "time", "memory", "images/s")


def line(row: Row) -> str:
    """One entry in one line."""
    if row["status"] != FINISHED:
        return f"{row['strategy']}: {row['status']}: {row['reason']}"
    key = recorded_score(row)
    found = (
        f"{key} {console.format_metric(row[key])}, loss {console.format_metric(row['loss'])} on {row['n']} test images"
    )
    return f"{row['strategy']}: {found}, {duration(row['seconds'])}"


def show(values: dict[str, Any]) -> None:
    """Prints the tables of `compare.json`, and below them the entries without figures."""
    shown = [
        {"#": str(number), **cells(row, values["score"])}
        for number, row in enumerate(values["rows"], 1)
        if row["status"] == FINISHED
    ]
    loss = "loss" if values["task"] == "regression" else "log loss"
    titles = {"score": values["score"].replace("_", " "), "loss": loss}
    titles |= dict.fromkeys(("difference", "loss difference"), "difference")
    data = printable(values["data"])
    _show(f"Test of {data}, with the paired difference to the first and its 95 % interval", REACHED, shown, titles)
    _show("Costs", COSTS, shown, titles)
    for row in values["rows"]:
        if row["status"] != FINISHED:
            console.say(f"{row['strategy']}: {row['status']}: {row['reason']}")


def _show(title: str, names: tuple[str, ...], shown: list[dict[str, str]], titles: dict[str, str]) -> None:
    table = Table(title=Text(title), title_justify="left")
    for name in names:
        table.add_column(titles.get(name, name), justify="left" if name == "strategy" else "right", overflow="fold")
    for row in shown:
        # An interval stands below its difference, so that the table fits a narrow screen.
        table.add_row(*(Text(printable(row[name]).replace(" (", "\n(")) for name in names))
    console.print_table(table)
