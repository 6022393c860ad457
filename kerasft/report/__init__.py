"""The pages for people: `report.html` of a run, `tune.html` of a search, and the comparison of finished runs."""

from kerasft.report.page import write
from kerasft.report.trials import rank_trials, write_search

__all__ = ["rank_trials", "write", "write_search"]
