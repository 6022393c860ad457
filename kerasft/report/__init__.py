"""The reports: `report.html`, what a run has found, and `tune.html`, what a search has, for people."""

from kerasft.report.page import write
from kerasft.report.trials import ranked, write_search

__all__ = ["ranked", "write", "write_search"]
