"""The pages for people: `report.html` of a run, `audit.html`, `tune.html` of a search, `lr_find.html`, `compare.html`, `compress.html`, `explain.html`, and the comparison of runs."""

from kerasft.report.audit_page import write_audit
from kerasft.report.compare_page import write_compare
from kerasft.report.compress_page import write_compress
from kerasft.report.explain_page import write_explain
from kerasft.report.lr_find_page import write_lr_find
from kerasft.report.model_card import write as write_model_card
from kerasft.report.report_page import write_report
from kerasft.report.tune_page import rank_trials, write_search

__all__ = [
    "rank_trials",
    "write_audit",
    "write_compare",
    "write_compress",
    "write_explain",
    "write_lr_find",
    "write_model_card",
    "write_report",
    "write_search",
]
