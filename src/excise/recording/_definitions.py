"""Definitions in frames of bounded size, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import accumulate, pairwise
from typing import Any, Final, TypeVar

from excise.batch import Definitions
from excise.frames import Frame, Process, Stack, Thread
from excise.recording._columns import decode_list, encode_list
from excise.recording._fields import MAX_I64, MAX_U32, integer, mapping, sequence, text
from excise.recording._format import Damaged
from excise.recording._lists import FRAME_KINDS, Lists

_PART_BYTES: Final = 128 << 10  # about, of each section of a frame; escapes may make six times of it
_PART_ROWS: Final = 1 << 16
_MAX_TEXT: Final = 16 << 10     # C++ symbols reach kilobytes
_MAX_DEFINED: Final = 1 << 24   # frames, and stacks, of one recording

T = TypeVar("T")


def encode_definitions(definitions: Definitions) -> Iterator[dict[str, Any]]:
    """One frame's content, or several when there is much to define."""
    content: dict[str, Any] = {}
    for key, value in _sections(definitions):
        if key in content:
            yield content
            content = {}
        content[key] = value
    if content:
        yield content


def _sections(definitions: Definitions) -> Iterator[tuple[str, Any]]:
    for frames in _parts(definitions.frames, lambda f: len(f.name) + len(f.file) + 16):
        yield "frames", _encode_frames(frames)
    for stacks in _parts(definitions.stacks, lambda s: 4 * len(s) + 4):
        lengths, ids = [len(s) for s in stacks], [i for s in stacks for i in s]
        yield "stacks", {"rows": len(stacks), "length": encode_list(lengths), "ids": len(ids),
                         "frame": encode_list(ids)}
    for processes in _parts(definitions.processes, lambda p: len(p.comm) + len(p.note) + 64):
        yield "processes", [_encode_process(p) for p in processes]
    for threads in _parts(definitions.threads, lambda t: len(t.name) + 32):
        yield "threads", [{"tid": t.tid, "pid": t.pid, "name": _cut(t.name), "carrier": bool(t.carrier),
                           **({"library": _cut(t.library)} if t.library else {})} for t in threads]


class DefinitionsDecoder:
    """Counts the frames and stacks defined so far: ids beyond them are damage, not a crash downstream."""

    def __init__(self) -> None:
        self.frames = 0
        self.stacks = 0

    def decode(self, content: dict[str, Any], lists: Lists) -> Definitions:
        frames = _decode_frames(mapping(content, "frames"), lists) if "frames" in content else []
        self.frames += len(frames)
        stacks = self._decode_stacks(mapping(content, "stacks")) if "stacks" in content else []
        self.stacks += len(stacks)
        if max(self.frames, self.stacks) > _MAX_DEFINED:
            raise Damaged(f"it defines more than {_MAX_DEFINED} frames or stacks")
        processes = [_decode_process(row) for row in _rows(content, "processes")]
        threads = [_decode_thread(row) for row in _rows(content, "threads")]
        return Definitions(frames, stacks, processes, threads)

    def _decode_stacks(self, content: dict[str, Any]) -> list[Stack]:
        rows, ids = integer(content, "rows", _PART_ROWS), integer(content, "ids", MAX_U32)
        lengths = decode_list(content.get("length"), rows, "<u4")
        frames = decode_list(content.get("frame"), ids, "<u4")
        if sum(lengths) != ids:
            raise Damaged("its stacks have the wrong length")
        if frames and max(frames) >= self.frames:
            raise Damaged("a stack names a frame that is not defined")
        return [tuple(frames[start:end]) for start, end in pairwise(accumulate(lengths, initial=0))]


def _encode_frames(frames: list[Frame]) -> dict[str, Any]:
    files: dict[str, int] = {}
    return {
        "rows": len(frames),
        "kind": encode_list([FRAME_KINDS.index(f.kind) for f in frames]),
        "file": encode_list([files.setdefault(_cut(f.file), len(files)) for f in frames]),
        "line": encode_list([f.line for f in frames]),
        "name": [_cut(f.name) for f in frames],
        "files": list(files),
    }


def _decode_frames(content: dict[str, Any], lists: Lists) -> list[Frame]:
    rows = integer(content, "rows", _PART_ROWS)
    names, files = sequence(content, "name"), sequence(content, "files")
    kinds = decode_list(content.get("kind"), rows, "|u1")
    file_ids = decode_list(content.get("file"), rows, "<u4")
    lines = decode_list(content.get("line"), rows, "<i8")
    if len(names) != rows or not all(isinstance(s, str) for s in (*names, *files)):
        raise Damaged("its frames are malformed")
    if rows and (max(kinds) >= len(lists.kinds) or max(file_ids) >= len(files)):
        raise Damaged("its frames are malformed")
    return [Frame(lists.kinds[kind], files[file], name, line)
            for kind, file, name, line in zip(kinds, file_ids, names, lines, strict=True)]


def _encode_process(process: Process) -> dict[str, Any]:
    return {"pid": process.pid, "start_ns": process.start_ns, "comm": _cut(process.comm),
            "python": process.python, "parent": process.parent, "ns_pid": process.ns_pid,
            "note": _cut(process.note), "host_pid": process.host_pid}


def _decode_process(row: dict[str, Any]) -> Process:
    python = text(row, "python") if row.get("python") is not None else None
    return Process(integer(row, "pid", MAX_U32), integer(row, "start_ns", MAX_I64), text(row, "comm"), python,
                   integer(row, "parent", MAX_U32), integer(row, "ns_pid", MAX_U32), text(row, "note"),
                   integer(row, "host_pid", MAX_U32) if "host_pid" in row else 0)


def _decode_thread(row: dict[str, Any]) -> Thread:
    carrier = row.get("carrier")
    if not isinstance(carrier, bool):
        raise Damaged("its carrier is malformed")
    library = text(row, "library") if "library" in row else ""
    return Thread(integer(row, "tid", MAX_U32), integer(row, "pid", MAX_U32), text(row, "name"), carrier, library)


def _rows(content: dict[str, Any], key: str) -> list[dict[str, Any]]:
    rows = sequence(content, key) if key in content else []
    if not all(isinstance(row, dict) for row in rows):
        raise Damaged(f"its {key} are malformed")
    return rows


def _cut(name: str) -> str:
    return name if len(name) <= _MAX_TEXT else name[:_MAX_TEXT]


def _parts(values: list[T], size: Callable[[T], int]) -> Iterator[list[T]]:
    """`values` in order, in lists of about `_PART_BYTES` and at most `_PART_ROWS`."""
    part: list[T] = []
    held = 0
    for value in values:
        if part and (held >= _PART_BYTES or len(part) >= _PART_ROWS):
            yield part
            part, held = [], 0
        part.append(value)
        held += size(value)
    if part:
        yield part
