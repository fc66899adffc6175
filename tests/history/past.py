"""Histories made by the real spool, without an agent: windows of 10 s that end where a test says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from zlib import crc32

from typical_summary import START_WALL_NS, WINDOW_NS, window

from excise.spool import Entry, Spool
from excise.summary import Span, Summary
from excise.workload import Workload

VLLM, TRITON = Workload("vllm", "rule"), Workload("triton.service", "unit")
SECOND = 1_000_000_000


@cache
def _window(seed: int, index: int, stacks: int) -> Summary:
    return window(seed, index, stacks=stacks)




def at(start_wall_ns: int, index: int = 0, seed: int = 1, stacks: int = 20) -> Summary:
    """A window of a server, as one that began then. Those of `index` repeat: they take long to make up."""
    index %= 16
    summary = _window(seed, index, stacks)
    moved = start_wall_ns - START_WALL_NS - index * WINDOW_NS

    def move(span: Span) -> Span:
        return span._replace(start_wall_ns=span.start_wall_ns + moved, end_wall_ns=span.end_wall_ns + moved)

    return replace(summary, spans={s: tuple(map(move, spans)) for s, spans in summary.spans.items()})


def rebooted(summary: Summary, boot_id: str) -> Summary:
    """As if the same was watched after another start of the host."""
    (old,) = summary.sources
    new = crc32(boot_id.encode())
    return replace(summary, sources={new: replace(summary.sources[old], boot_id=boot_id)},
                   spans={new: summary.spans[old]})


def keep(
    folder: Path, start_ns: int, windows: int, workloads: Iterable[Workload] = (VLLM,),
    lost: Mapping[int, str] | None = None, absent: Iterable[int] = (),
) -> list[Summary]:
    """Writes windows from `start_ns` on, each of all the workloads. `lost`: index of a window -> why; `absent`: windows
    of nobody. Those of the first workload."""
    spool = Spool(folder, "agent-1", 200 << 20, 86400.0)
    out = []
    for index in range(windows):
        if index in absent:
            continue
        for number, workload in enumerate(workloads):
            (sequence,) = spool.reserve(1)
            if lost and index in lost:
                spool.lose(sequence, sequence, lost[index])
                continue
            summary = at(start_ns + index * WINDOW_NS, index, seed=1 + number)
            assert spool.append(Entry(sequence, workload, summary))
            if not number:
                out.append(summary)
    spool.close()
    return out
