"""Reports out of summaries: an agent's history by workload and range of time, or a file of summaries.

Nothing here compiles anything: numba is not imported.
"""

from excise.history.coverage import coverage
from excise.history.fold import Fold
from excise.history.read import DEFAULT_FOLDER, HistoryError, history_report, kept_in, summaries_report
from excise.history.report import report_of
from excise.history.when import Range, range_of

__all__ = [
    "DEFAULT_FOLDER",
    "Fold",
    "HistoryError",
    "Range",
    "coverage",
    "history_report",
    "kept_in",
    "range_of",
    "report_of",
    "summaries_report",
]
