"""Summaries out of a file, which may be cut off, damaged or made by someone who means harm."""

from __future__ import annotations

import io
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from excise.framing import FRAME, MAX_FRAME_BYTES, Damaged, checksum
from excise.summary._decode import decode_summary
from excise.summary._definitions import Defined
from excise.summary._lists import Lists
from excise.summary._payload import decode_payload
from excise.summary._summary import Summary
from excise.summary.schema import (
    ENVELOPE_TYPES,
    FIRST_LINE,
    FIRST_LINE_BYTES,
    FRAME_TYPES,
    MAGIC,
    VERSION,
    SummaryError,
)

_NAMES = {number: name for name, number in FRAME_TYPES.items()}


class SummaryFile:
    """A stream of summaries, read once and in order. `source`: a path, "-" for standard input, or an open binary file.

    After `summaries()` has ended: `truncated` says that the last frame is cut off, `skipped` counts frames of types
    that this version does not know.
    """

    def __init__(self, source: str | Path | BinaryIO) -> None:
        self.truncated = False
        self.skipped: Counter[int] = Counter()
        self._offset = 0
        if isinstance(source, (str, Path)):
            self.path = "standard input" if source == "-" else str(source)
            self._file = sys.stdin.buffer if source == "-" else _open(Path(source))
        else:
            self.path, self._file = str(getattr(source, "name", "the stream")), source
        try:
            self._first_line(self._read(FRAME.size))
        except BaseException:
            self._file.close()
            raise

    def summaries(self) -> Iterator[Summary]:
        """Every whole one. SummaryError: what follows is damaged, what came before is good."""
        lists: Lists | None = None
        defined = Defined([])
        try:
            while start := self._read(FRAME.size):
                at = self._offset
                if start == MAGIC[:FRAME.size]:
                    lists = None
                    if not self._first_line(start):
                        return
                    continue
                frame = self._frame(start)
                if frame is None:
                    return
                kind, payload = frame
                if kind not in _NAMES:
                    self.skipped[kind] += 1
                    continue
                if _NAMES[kind] in ENVELOPE_TYPES:
                    continue
                try:
                    content = decode_payload(payload)
                    if _NAMES[kind] == "head":
                        lists = Lists.decode(content)
                        defined = Defined(list(lists.frame_kinds))
                    elif lists is None:
                        raise Damaged("its segment has no head")
                    elif _NAMES[kind] == "definitions":
                        defined.add(content)
                    else:
                        yield decode_summary(content, defined, lists)
                except Damaged as error:
                    raise self._damaged(at, str(error)) from error
        finally:
            self._file.close()

    def _frame(self, head: bytes) -> tuple[int, bytes] | None:
        """Type and payload of the frame that begins with `head`; None where the file ends within it."""
        if len(head) < FRAME.size:
            self.truncated = True
            return None
        length, crc, kind = FRAME.unpack(head)
        if length > MAX_FRAME_BYTES:
            raise self._damaged(self._offset, f"a frame claims {length} bytes")
        payload = self._read(length)
        if len(payload) < length:
            self.truncated = True
            return None
        if checksum(kind, payload) != crc:
            raise self._damaged(self._offset, "a frame's checksum does not match")
        self._offset += FRAME.size + length
        return kind, payload

    def _first_line(self, start: bytes) -> bool:
        """Of a segment. False where the file ends within it, though not within the first."""
        line = start + self._line(FIRST_LINE_BYTES - len(start))
        match = FIRST_LINE.fullmatch(line)
        if match is None and self._offset and len(line) < FIRST_LINE_BYTES and not line.endswith(b"\n"):
            self.truncated = True
            return False
        if match is None and self._offset:
            raise self._damaged(self._offset, "a segment's first line is malformed")
        if match is None:
            raise SummaryError(f"{self.path} is no file of Excise's summaries")
        if int(match[1]) > VERSION:
            raise SummaryError(f"{self.path} is from a newer version of Excise (format {int(match[1])}, this one reads "
                               f"up to {VERSION}): upgrade Excise to read it")
        self._offset += len(line)
        return True

    def _line(self, most: int) -> bytes:
        try:
            return self._file.readline(most)
        except OSError as error:
            raise SummaryError(f"{self.path}: {error.strerror or error}") from error

    def _read(self, count: int) -> bytes:
        try:
            return self._file.read(count)
        except OSError as error:
            raise SummaryError(f"{self.path}: {error.strerror or error}") from error

    def _damaged(self, offset: int, why: str) -> SummaryError:
        return SummaryError(f"{self.path} is damaged at byte {offset}: {why}")


def read_summaries(source: str | Path | BinaryIO) -> Iterator[Summary]:
    """The summaries of a file. SummaryError at once for a file that has none."""
    return SummaryFile(source).summaries()


def decode_segments(content: bytes) -> list[Summary]:
    """All of a message. SummaryError also when it is cut off."""
    file = SummaryFile(io.BytesIO(content))
    summaries = list(file.summaries())
    if file.truncated:
        raise SummaryError(f"{file.path} is cut off")
    return summaries


def is_summaries(path: str | Path) -> bool:
    """Whether a file, "-" for standard input, begins as summaries do. False also for one that cannot be read."""
    try:
        if path == "-":
            stdin = sys.stdin.buffer
            return isinstance(stdin, io.BufferedReader) and stdin.peek(len(MAGIC)).startswith(MAGIC)
        with Path(path).open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise SummaryError(f"{path}: {error.strerror or error}") from error
