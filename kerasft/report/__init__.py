"""The report: `report.html`, what a run has found, for people."""

from kerasft.report.page import write

__all__ = ["write"]
