"""Items as frames, and back: one function a type, one table each way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, assert_never

from excise.batch import Batch, Cost, Definitions, End, Header, HostSample, Item, Totals
from excise.recording._definitions import DefinitionsDecoder, encode_definitions
from excise.recording._fields import free_form, integer, number_or_none, real, span, text
from excise.recording._format import Damaged, FrameType
from excise.recording._lists import Lists
from excise.recording._tables import decode_batch, decode_totals, encode_batch, encode_totals


def encode_item(item: Item) -> Iterator[tuple[FrameType, dict[str, Any]]]:
    """One frame, or several for a large item; none for definitions that define nothing."""
    match item:
        case Header():
            yield FrameType.HEADER, {
                "boot_id": item.boot_id, "host": item.host, "target": item.target,
                "start_wall_ns": item.start_wall_ns, "start_mono_ns": item.start_mono_ns,
                "rate_hz": item.rate_hz, "capabilities": item.capabilities, "version": item.version}
        case Definitions():
            for content in encode_definitions(item):
                yield FrameType.DEFINITIONS, content
        case Batch():
            for content in encode_batch(item):
                yield FrameType.BATCH, content
        case Totals():
            for content in encode_totals(item):
                yield FrameType.TOTALS, content
        case HostSample():
            yield FrameType.HOST_SAMPLE, {
                "start_ns": item.start_ns, "end_ns": item.end_ns, "values": item.values}
        case Cost():
            yield FrameType.COST, {"start_ns": item.start_ns, "end_ns": item.end_ns, "values": item.values}
        case End():
            yield FrameType.END, {
                "end_mono_ns": item.end_mono_ns, "reason": item.reason, "overhead": item.overhead}
        case _:
            assert_never(item)


class ItemDecoder:
    """Frames of one recording, in order. Damaged: the frame is not what a writer would have written here."""

    def __init__(self) -> None:
        self._lists: Lists | None = None
        self._definitions = DefinitionsDecoder()
        self._begun = False

    def decode(self, kind: FrameType, content: dict[str, Any]) -> Item | None:
        """The item, or None for a frame that is about the file."""
        if kind is FrameType.NAMES:
            self._lists = Lists.of(content)
            return None
        if self._lists is None:
            raise Damaged("it comes before the lists of names")
        if (kind is FrameType.HEADER) is self._begun:
            raise Damaged("it is a second header" if self._begun else "it comes before the header")
        self._begun = True
        return self._item(kind, content, self._lists)

    def _item(self, kind: FrameType, content: dict[str, Any], lists: Lists) -> Item:
        match kind:
            case FrameType.HEADER:
                return _decode_header(content)
            case FrameType.DEFINITIONS:
                return self._definitions.decode(content, lists)
            case FrameType.BATCH:
                return decode_batch(content, lists, self._definitions.stacks)
            case FrameType.TOTALS:
                return decode_totals(content, lists)
            case FrameType.HOST_SAMPLE:
                return _decode_host_sample(content)
            case FrameType.COST:
                return Cost(*span(content), free_form(content, "values"))
            case FrameType.END:
                overhead = free_form(content, "overhead")
                return End(integer(content, "end_mono_ns"), text(content, "reason"), overhead)
            case _:
                raise Damaged("it holds no item")


def _decode_header(content: dict[str, Any]) -> Header:
    target = free_form(content, "target")
    integer(target, "pid")
    return Header(text(content, "boot_id"), free_form(content, "host"), target,
                  integer(content, "start_wall_ns"), integer(content, "start_mono_ns"),
                  real(content, "rate_hz"), free_form(content, "capabilities"), text(content, "version"))


def _decode_host_sample(content: dict[str, Any]) -> HostSample:
    values = free_form(content, "values")
    for key, value in values.items():
        many = value if key == "listen_ports" and isinstance(value, list) else [value]
        if not all(number_or_none(one) for one in many):
            raise Damaged(f"its {key} is malformed")
    return HostSample(*span(content), values)
