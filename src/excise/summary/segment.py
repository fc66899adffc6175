"""Summaries as bytes: segments that decode alone, one behind the other."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from excise.framing import FRAME, frame_bytes
from excise.summary._definitions import Numbering
from excise.summary._encode import encode_summary
from excise.summary._lists import TODAY, Lists
from excise.summary._payload import encode_payload
from excise.summary._summary import Summary
from excise.summary.schema import FRAME_TYPES, MAGIC, SHIPMENT_KEYS, VERSION

SEGMENT_SUMMARIES: Final = 360  # an hour of 10 s windows
SEGMENT_BYTES: Final = 1 << 20
_MARGIN_BYTES: Final = 24  # numbers of definitions grow with the segment


class SegmentEncoder:
    """Turns summaries into a stream of segments. A new one begins every so many summaries or bytes, and when a summary
    has names that the head does not list."""

    def __init__(self, summaries: int = SEGMENT_SUMMARIES, most_bytes: int = SEGMENT_BYTES) -> None:
        self._most = summaries, most_bytes
        self._lists: Lists = TODAY
        self._numbering: Numbering | None = None
        self._held = (0, 0)
        self._defined = 0  # crc32 of the payloads of this segment's definitions

    def encode(self, summary: Summary, shipment: Mapping[int, object] | None = None) -> bytes:
        """Its bytes, to be written behind those of the last call. ValueError: does not fit the format; the stream is
        as it was. `shipment`: of a frame that comes right before it; its `defined` is known here."""
        lists = self._lists.covering(summary)
        if self._numbering is None or lists != self._lists or self._full(self._numbering):
            head, numbering = _head(lists), Numbering(lists.frame_kinds)
        else:
            head, numbering = b"", self._numbering
        try:
            content = encode_summary(summary, numbering, lists)
            new = numbering.take_new()
            definitions = _frame("definitions", new) if new else b""
            defined = zlib.crc32(definitions[FRAME.size:], _head_crc(head) if head else self._defined)
            out = head + definitions
            if shipment is not None:
                out += _frame("shipment", {**shipment, SHIPMENT_KEYS["defined"]: defined})
            out += _frame("summary", content)
        except BaseException:
            self.restart()  # the numbering holds definitions that were not written
            raise
        count, size = self._held if not head else (0, 0)
        self._lists, self._numbering, self._held = lists, numbering, (count + 1, size + len(out))
        self._defined = defined
        return out

    def encode_gap(self, gap: Mapping[int, object]) -> bytes:
        """A frame that stands for summaries that there are not, to be written like a summary's."""
        out = b""
        if self._numbering is None:
            out, self._numbering, self._held = _head(self._lists), Numbering(self._lists.frame_kinds), (0, 0)
            self._defined = _head_crc(out)
        return out + _frame("gap", gap)

    def restart(self) -> None:
        """Begins another segment with the next call: what the last one gave was not written."""
        self._numbering = None

    def _full(self, numbering: Numbering) -> bool:
        return numbering.half_full() or any(held >= most for held, most in zip(self._held, self._most, strict=True))


def encode_segment(summaries: Iterable[Summary]) -> bytes:
    """One segment of all of them."""
    encoder = SegmentEncoder(1 << 62, 1 << 62)
    return b"".join([encoder.encode(summary) for summary in summaries])


def steady_bytes(summary: Summary) -> int:
    """Of its frame in a stream that has its definitions already, about."""
    lists = TODAY.covering(summary)
    return len(_frame("summary", encode_summary(summary, Numbering(lists.frame_kinds), lists)))


def fit(summary: Summary, most_bytes: int) -> Summary:
    """With histograms so coarse that it takes at most `most_bytes` once its definitions are sent (`steady_bytes`).
    `compact` it first. The histogram with the most buckets is lowered first; where scale 0 does not suffice, it stays
    at that.

    Sums do not change; quantiles come in wider steps: 4.4 % at scale 4, 9.1 % at 3, 19 % at 2, 41 % at 1.
    """
    while (excess := steady_bytes(summary) + _MARGIN_BYTES - most_bytes) > 0:
        lengths, saved = dict(summary.lengths), 0
        while saved < excess:  # a bucket takes about half a byte: two or three tries suffice
            key = max(lengths, key=lambda k: (lengths[k].scale > 0, len(lengths[k].buckets), k), default=None)
            if key is None or lengths[key].scale <= 0:
                break
            coarse = lengths[key].lowered(lengths[key].scale - 1)
            saved += len(lengths[key].buckets) - len(coarse.buckets) + 1
            lengths[key] = coarse
        if not saved:
            break
        summary = replace(summary, lengths=lengths)
    return summary


def _head(lists: Lists) -> bytes:
    return MAGIC + b"%d\n" % VERSION + _frame("head", lists.encode())


def _head_crc(head: bytes) -> int:
    """Of the payload of the frame behind the first line."""
    return zlib.crc32(head[head.index(b"\n") + 1 + FRAME.size:])


def _frame(kind: str, content: Mapping[int, object]) -> bytes:
    return frame_bytes(FRAME_TYPES[kind], encode_payload(content))


assert int.from_bytes(MAGIC[:4], "little") > 1 << 30 and FRAME.size <= len(MAGIC)  # a magic is no frame
