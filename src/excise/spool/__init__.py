"""The spool: an agent's summaries on disk, for its history and for its sinks. docs/spool.md has the format."""

from excise.spool.entry import Entry, Gap, Item

__all__ = ["Entry", "Gap", "Item"]
