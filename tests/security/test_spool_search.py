"""A spool file of damage between good frames costs what it is long, and not the square of it."""

from __future__ import annotations

import os
from pathlib import Path

from excise.framing import FRAME, frame_bytes
from excise.spool._frames import FrameReader
from excise.summary.schema import MAGIC, VERSION

LIE = FRAME.pack(4 << 20, 0, 1)  # looks like a frame, and 4 MB are to be read to see that it is none
PLACES = 200


class Counting(FrameReader):
    read_bytes = 0

    def _read(self, at: int, count: int) -> bytes:
        content = super()._read(at, count)
        self.read_bytes += len(content)
        return content


def test_lies_between_good_frames_are_given_up(tmp_path: Path) -> None:
    path = tmp_path / "0000000001.summaries"
    path.write_bytes(MAGIC + b"%d\n" % VERSION + (LIE * 12 + frame_bytes(5, b"good")) * PLACES)
    os.truncate(path, 8 << 20)
    reader = Counting(os.open(path, os.O_RDONLY))
    frames = 0
    while reader.next() is not None:
        frames += 1
    reader.close()
    assert 1 < frames < PLACES
    assert reader.read_bytes < 400 << 20  # without a limit: PLACES times 48 MB


def test_honest_damage_is_passed_over_however_often_it_is_met(tmp_path: Path) -> None:
    path = tmp_path / "0000000001.summaries"
    path.write_bytes(MAGIC + b"%d\n" % VERSION + (b"\xff" * 1000 + frame_bytes(5, b"good")) * PLACES)
    reader = FrameReader(os.open(path, os.O_RDONLY))
    frames = [frame for _ in range(PLACES + 1) if (frame := reader.next()) is not None]
    assert len(frames) == PLACES + 1 and reader.damages == PLACES and reader.next() is None
    reader.close()
