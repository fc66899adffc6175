"""The frames around summaries in a log: a shipment before each, a gap where there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, cast, get_args

from excise.framing import Damaged
from excise.spool.entry import Entry, Gap
from excise.summary._varint import pack, unpack
from excise.summary.schema import GAP_KEYS as G
from excise.summary.schema import SHIPMENT_KEYS as S
from excise.workload import Workload, WorkloadKind

MAX_SEQUENCE: Final = (1 << 63) - 1
MAX_TEXT_BYTES: Final = 512
_KINDS: Final = get_args(WorkloadKind)


@dataclass(frozen=True, slots=True)
class Mark:
    """Where in the log a frame stands."""

    settled: int  # all numbers up to this one are in the log, here or before
    log_ns: int  # the log's own clock


@dataclass(frozen=True, slots=True)
class Shipment:
    """Whose the summary is that follows."""

    sequence: int
    workload: Workload
    agent: str
    wall_ns: tuple[int, int] | None  # start and end of its spans
    defined: int  # crc32 of its segment's definitions so far
    mark: Mark


def wall_of(entry: Entry) -> tuple[int, int] | None:
    """Start and end of its spans, ns since 1970. None: it has none."""
    spans = [span for mine in entry.summary.spans.values() for span in mine]
    return (min(s.start_wall_ns for s in spans), max(s.end_wall_ns for s in spans)) if spans else None


def shipment_content(entry: Entry, agent: str, mark: Mark) -> dict[int, object]:
    """Without `defined`, which the encoder knows. ValueError: a name that is too long."""
    for text in (entry.workload.name, agent):
        if len(text.encode("utf-8", "replace")) > MAX_TEXT_BYTES:
            raise ValueError(f"a name of more than {MAX_TEXT_BYTES} bytes")
    wall = wall_of(entry)
    return {
        S["sequence"]: entry.sequence, S["workload"]: entry.workload.name, S["kind"]: entry.workload.kind,
        S["agent"]: agent, S["settled"]: mark.settled, S["log_ns"]: mark.log_ns,
        **({S["wall"]: pack(wall)} if wall else {})}


def gap_content(gap: Gap, agent: str, mark: Mark) -> dict[int, object]:
    return {G["first"]: gap.first, G["last"]: gap.last, G["reason"]: gap.reason, G["agent"]: agent,
            G["settled"]: mark.settled, G["log_ns"]: mark.log_ns}


def read_shipment(content: dict[int, Any]) -> Shipment:
    """Raises Damaged."""
    kind = _text(content.get(S["kind"]))
    if kind not in _KINDS:
        raise Damaged("a workload's kind is not known")
    wall = unpack(content.get(S["wall"], b""))
    if len(wall) not in (0, 2):
        raise Damaged("its wall times are malformed")
    return Shipment(
        _sequence(content.get(S["sequence"])), Workload(_text(content.get(S["workload"])), cast(WorkloadKind, kind)),
        _text(content.get(S["agent"])), (wall[0], wall[1]) if wall else None,
        _count(content.get(S["defined"])),
        Mark(_count(content.get(S["settled"], 0)), _count(content.get(S["log_ns"], 0))))


def read_gap(content: dict[int, Any]) -> tuple[Gap, Mark]:
    """Raises Damaged."""
    gap = Gap(_sequence(content.get(G["first"])), _sequence(content.get(G["last"])), _text(content.get(G["reason"])))
    if gap.last < gap.first:
        raise Damaged("a gap ends before it begins")
    return gap, Mark(_count(content.get(G["settled"], 0)), _count(content.get(G["log_ns"], 0)))


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value <= MAX_SEQUENCE:
        raise Damaged("a number is out of range")
    return value


def _sequence(value: object) -> int:
    if not (number := _count(value)):
        raise Damaged("a sequence number is 0")
    return number


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value.encode("utf-8", "replace")) > MAX_TEXT_BYTES:
        raise Damaged("a name is malformed")
    return value
