"""What a reader of a history must know."""

from __future__ import annotations

from collections.abc import Iterable

from excise.history.words import Words
from excise.ledger.notes import of_processes, phased, untracked
from excise.summary import Source, Summary


def notes_of(summary: Summary, words: Iterable[Words], sources: list[tuple[Source, int]]) -> list[str]:
    """`sources`: and how long each watched."""
    programs = sorted(summary.processes.values(), key=lambda p: p.pid)
    out = of_processes((p.pid, p.comm, p.note) for p in programs)
    foreign = sorted({word.foreign for word in words if word.foreign})
    if foreign:
        out.append(f"another version of Excise wrote of {', '.join(foreign)}: such stages count as unattributed here, "
                   "such states as other")
    rates = sorted({s.rate_millihz / 1000 for s, _ in sources})
    if len(rates) > 1:
        out.append(f"sampled at {_and(f'{rate:g} Hz' if rate else 'no rate' for rate in rates)} in turn")
    versions = sorted({s.version for s, _ in sources})
    if len(versions) > 1:
        out.append(f"Excise {_and(versions)} watched: rules may have changed between them")
    return [*out, *phased(summary.steps, "with a larger budget it sees more"), *untracked(summary.lost)]


def _and(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}"
