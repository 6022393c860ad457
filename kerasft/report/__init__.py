"""The reports for people: `report.html` of a run, `tune.html` of a search, `lr_find.html` of a range test."""

from kerasft.report.lr_find import write_lr_find
from kerasft.report.page import write
from kerasft.report.trials import ranked, write_search

__all__ = ["ranked", "write", "write_lr_find", "write_search"]
