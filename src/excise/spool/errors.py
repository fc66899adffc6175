"""What the spool raises."""

from __future__ import annotations


class SpoolError(Exception):
    """A spool that cannot be opened or read. The text is a sentence for the user: it names the file and the way out."""
