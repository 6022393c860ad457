"""The table of phases that a run prints before it trains."""

from dataclasses import replace

from rich.table import Table
from rich.text import Text

from kerasft.console import console
from kerasft.settings.errors import printable
from kerasft.strategies.phase import Phase


def show_phases(rows: list[tuple[Phase, int, int]]) -> None:
    """The table of phases with trainable and frozen parameters."""
    table = Table(title="Phases", title_justify="left")
    for name, side in (("phase", "left"), ("trainable", "right"), ("frozen", "right"), ("augmentation", "left")):
        table.add_column(name, justify=side)
    for phase, trainable, frozen in rows:
        recipe = " | ".join(map(str, phase.augment)) or "none"
        # The table is for a narrow screen; settled.json and the records name the rest.
        short = replace(phase, optimizer=None, schedule=None, loss=None, augment=None, conditional=False)
        name = f"{short}, if it pays" if phase.conditional else str(short)
        counts = ("chosen later", "") if phase.unfreeze is None else (f"{trainable:,}", f"{frozen:,}")
        cells = (name, *counts, recipe if phase.epochs else "")
        table.add_row(*(Text(printable(cell)) for cell in cells))  # a Text, for brackets are no markup here
    console.print_table(table)
