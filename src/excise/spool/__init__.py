"""The spool: an agent's summaries on disk, for its history and for its sinks. docs/spool.md has the format.

`Spool` writes it, a `Cursor` is how far a sink has got, `read_history` reads it for reports.
"""

from excise.spool.cursor import Cursor
from excise.spool.entry import Entry, Gap, Item
from excise.spool.errors import SpoolError
from excise.spool.history import WorkloadHistory, history_workloads, read_history, survey
from excise.spool.identity import agent_id
from excise.spool.spool import Spool
from excise.spool.state import SpoolState

__all__ = [
    "Cursor", "Entry", "Gap", "Item", "Spool", "SpoolError", "SpoolState", "WorkloadHistory", "agent_id",
    "history_workloads", "read_history", "survey",
]
