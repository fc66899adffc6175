"""Label values. Names of processes, units and libraries come from the host and may be anything: what is exposed of them
is printable, short, never empty (an empty label is none to Prometheus), and of few."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Final

OTHER: Final = "(other)"
"""All names beyond the most that a label may have."""

MOST_CHARS: Final = 128  # a container's id has 64, a unit's name mostly under 80


def label_value(text: str) -> str:
    """Control characters and lone surrogates as escapes; what is too long ends in a digest of the whole."""
    clean = text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    if len(clean) > MOST_CHARS:
        clean = f"{clean[:MOST_CHARS - 18]}~{digest(text)}"
    return clean.strip() or "(unnamed)"


def digest(text: str) -> str:
    """16 hex digits."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


class FewNames:
    """The first `most` names that come, the rest as OTHER: a name stays what it is, so that counters only grow."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: dict[str, str] = {}

    def __call__(self, name: str) -> str:
        known = self._known.get(name)
        if known is None:
            if len(self._known) >= self._most:
                return OTHER
            known = self._known[name] = label_value(name)
        return known


def few(counts: Mapping[str, float], most: int) -> dict[str, float]:
    """The first `most` by name, the rest added up as OTHER."""
    out: dict[str, float] = {}
    for i, name in enumerate(sorted(counts)):
        label = label_value(name) if i < most else OTHER
        out[label] = out.get(label, 0) + counts[name]
    return out
