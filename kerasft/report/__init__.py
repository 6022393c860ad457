"""The pages for people: `report.html` of a run, `audit.html` of an audit, `tune.html` of a search, `lr_find.html`, and the comparison of runs."""

from kerasft.report.audit_page import write_audit
from kerasft.report.lr_find import write_lr_find
from kerasft.report.page import write
from kerasft.report.trials import rank_trials, write_search

__all__ = ["rank_trials", "write", "write_audit", "write_lr_find", "write_search"]
