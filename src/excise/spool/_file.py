"""The segment file that is written: whole frames or nothing, on a disk that may be full or fail."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Mapping
from typing import Final

from excise.spool._folder import Folder, segment_name
from excise.summary import SegmentEncoder, Summary

_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class LogFile:
    """One file after the other; the first is begun with the first write. Never one that is there already."""

    def __init__(self, folder: Folder, number: int) -> None:
        self.number = number  # of the one that is written, or will be next
        self.size = 0
        self.began_ns = 0  # by the log's clock
        self._folder = folder
        self._fd = -1
        self._encoder = _encoder()

    @property
    def open(self) -> bool:
        return self._fd >= 0

    def put(self, summary: Summary, shipment: Mapping[int, object], log_ns: int) -> str:
        """The reason why it is not written, or ''. ValueError, OverflowError: it does not fit the format."""
        return self._write(self._encoder.encode(summary, shipment), log_ns)

    def put_gap(self, gap: Mapping[int, object], log_ns: int) -> str:
        """The same."""
        return self._write(self._encoder.encode_gap(gap), log_ns)

    def end(self) -> None:
        """Closes it, on the disk; what the disk then has lost all the same will be found damaged."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        with contextlib.suppress(OSError):
            os.fdatasync(fd)
            self._folder.sync()
        os.close(fd)
        self._encoder = _encoder()
        self.size = 0
        self.number += 1

    def abandon(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _write(self, content: bytes, log_ns: int) -> str:
        try:
            if self._fd < 0:
                self.number = max(self.number, *(number + 1 for number in self._folder.segments()), 1)
                self._fd = self._folder.create(segment_name(self.number))
                self.size, self.began_ns = 0, log_ns
            view = memoryview(content)
            while view:
                view = view[os.write(self._fd, view):]
        except OSError as error:
            self._cut()
            return "disk_full" if error.errno in _FULL else "io_error"
        self.size += len(content)
        return ""

    def _cut(self) -> None:
        """Takes what a write has left half done off the end; what follows defines again what was defined there."""
        self._encoder.restart()
        if self._fd < 0:
            return
        try:
            os.ftruncate(self._fd, self.size)
        except OSError:
            self.end()


def _encoder() -> SegmentEncoder:
    """A file is one segment, if its summaries' names allow."""
    return SegmentEncoder(1 << 62, 1 << 62)
