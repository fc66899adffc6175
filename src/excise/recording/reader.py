"""Items out of a file, which may be cut off, damaged or made by someone who means harm."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from excise.batch import End, Item
from excise.recording._format import (
    FRAME,
    MAGIC,
    MAX_FRAME_BYTES,
    VERSION,
    Damaged,
    FrameType,
    RecordingError,
    checksum,
    content,
)
from excise.recording._items import ItemDecoder

_KNOWN = frozenset(FrameType)
_FIRST_LINE = re.compile(re.escape(MAGIC) + rb"([1-9][0-9]{0,8})\n")


class Recording:
    """A recording, read once and in order. `source`: a path, "-" for standard input, or an open binary file.

    After `items()` has ended: `truncated` says that the end is missing (a crash, a full disk, a recording
    still being written), `skipped` counts frames of types that this version does not know.
    """

    def __init__(self, source: str | Path | BinaryIO) -> None:
        self.truncated = False
        self.skipped: Counter[int] = Counter()
        self._offset = 0
        if isinstance(source, (str, Path)):
            self.path = "standard input" if source == "-" else str(source)
            self._file = sys.stdin.buffer if source == "-" else _open(Path(source))
        else:
            self.path, self._file = getattr(source, "name", "the stream"), source
        try:
            self._check_magic()
        except BaseException:
            self._file.close()
            raise

    def items(self) -> Iterator[Item]:
        """Every whole item. RecordingError: what follows is damaged, what came before is good."""
        decoder, number, ended = ItemDecoder(), 0, False
        try:
            while (read := self._frame(number)) is not None:
                number += 1
                kind, payload = read
                if ended:
                    raise self._damaged(number, "it comes after the end")
                if kind not in _KNOWN:
                    self.skipped[kind] += 1
                    continue
                try:
                    item = decoder.decode(FrameType(kind), content(payload))
                except Damaged as error:
                    raise self._damaged(number, str(error)) from error
                if item is not None:
                    ended = isinstance(item, End)
                    yield item
            self.truncated = self.truncated or not ended
        finally:
            self._file.close()

    def _frame(self, number: int) -> tuple[int, bytes] | None:
        """Type and payload of the next frame; None at the end, whole or not."""
        head = self._read(FRAME.size)
        if len(head) < FRAME.size:
            self.truncated = bool(head)
            return None
        length, crc, kind = FRAME.unpack(head)
        if length > MAX_FRAME_BYTES:
            raise self._damaged(number + 1, f"it claims {length} bytes")
        payload = self._read(length)
        if len(payload) < length:
            self.truncated = True
            return None
        if checksum(kind, payload) != crc:
            raise self._damaged(number + 1, "its checksum does not match")
        self._offset += FRAME.size + length
        return kind, payload

    def _read(self, count: int) -> bytes:
        try:
            return self._file.read(count)
        except OSError as error:
            raise RecordingError(f"{self.path}: {error.strerror or error}") from error

    def _check_magic(self) -> None:
        try:
            line = self._file.readline(len(MAGIC) + 16)
        except OSError as error:
            raise RecordingError(f"{self.path}: {error.strerror or error}") from error
        match = _FIRST_LINE.fullmatch(line)
        if match is None:
            raise RecordingError(f"{self.path} is not an Excise recording (excise dump reads summaries too)")
        if int(match[1]) > VERSION:
            raise RecordingError(
                f"{self.path} is from a newer version of Excise (format {int(match[1])}, this one reads up "
                f"to {VERSION}): upgrade Excise to read it")
        self._offset = len(line)

    def _damaged(self, number: int, why: str) -> RecordingError:
        return RecordingError(f"{self.path} is damaged in frame {number}, at byte {self._offset}: {why}")


def read_recording(source: str | Path | BinaryIO) -> Iterator[Item]:
    """The items of a recording. RecordingError at once for a file that is none."""
    return Recording(source).items()


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise RecordingError(f"{path}: {error.strerror or error}") from error
