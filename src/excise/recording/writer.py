"""Items into a file. Root may write where others can write too: only a plain file of its own is opened."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from types import TracebackType

from excise.batch import Item
from excise.recording._format import MAGIC, VERSION, FrameType, RecordingError, frame
from excise.recording._items import encode_item
from excise.recording._lists import current


class RecordingWriter:
    """Writes each item as whole frames, at once. Single-threaded: one writer, one thread.

    `target` is a path, "-" for standard output, or a descriptor, which stays the caller's to close.
    A write that fails raises RecordingError once; later calls of `write` do nothing: the session goes on.
    """

    def __init__(self, target: str | Path | int) -> None:
        self.path = "standard output" if target in ("-", 1) else str(target)
        self.failed = False
        self.bytes_written = 0
        self._own = not (isinstance(target, int) or target == "-")
        if isinstance(target, int):
            self._fd = target
        else:
            self._fd = _create(Path(target)) if self._own else 1
        if os.isatty(self._fd):
            raise RecordingError(f"{self.path} is a terminal, a recording is binary: name a file")
        try:
            self._emit(MAGIC + b"%d\n" % VERSION + frame(FrameType.NAMES, current()))
        except RecordingError:
            self.close()
            raise

    def write(self, item: Item) -> None:
        if self.failed:
            return
        try:
            frames = b"".join(frame(kind, content) for kind, content in encode_item(item))
        except (ValueError, TypeError, OverflowError) as error:
            self.failed = True
            raise RecordingError(
                f"{self.path}: {_WHAT[type(item).__name__]} cannot be recorded ({error}); the recording ends "
                f"here, after {self.bytes_written} bytes") from error
        self._emit(frames)

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        self.failed = True
        if self._own and fd >= 0:
            os.close(fd)

    def __enter__(self) -> RecordingWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def _emit(self, content: bytes) -> None:
        """All of it, or the file as it was and RecordingError."""
        view = memoryview(content)
        try:
            while view:
                view = view[os.write(self._fd, view):]
        except OSError as error:
            self._abandon()
            raise RecordingError(f"{self.path}: {_reason(error)}; the recording ends here, after "
                                 f"{self.bytes_written} bytes") from error
        self.bytes_written += len(content)

    def _abandon(self) -> None:
        self.failed = True
        if self._own:
            os.ftruncate(self._fd, self.bytes_written)  # only shrinks: works on a full disk


_NOT_A_FILE = "is not a regular file: a recording is written to a file or to standard output (-)"
_WHAT = {"Header": "the header", "Definitions": "definitions", "Batch": "a batch", "Totals": "totals",
         "HostSample": "a host sample", "Cost": "our own cost", "End": "the end"}


def _create(path: Path) -> int:
    """A new file, 0600, or an old one of ours, emptied. Never through a link, never a device or FIFO."""
    flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY
    try:
        return os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        pass
    except OSError as error:
        raise RecordingError(f"{path}: cannot be created: {_reason(error)}") from error
    try:
        fd = os.open(path, flags | os.O_NONBLOCK)  # a FIFO without a reader would block
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise RecordingError(f"{path} is a symbolic link: name the file itself") from error
        if error.errno in (errno.ENXIO, errno.EISDIR):
            raise RecordingError(f"{path} {_NOT_A_FILE}") from error
        raise RecordingError(f"{path}: cannot be written: {_reason(error)}") from error
    why = _objection(os.fstat(fd))
    if why:
        os.close(fd)
        raise RecordingError(f"{path} {why}")
    os.set_blocking(fd, True)
    os.fchmod(fd, 0o600)
    os.ftruncate(fd, 0)
    return fd


def _objection(found: os.stat_result) -> str:
    if not stat.S_ISREG(found.st_mode):
        return _NOT_A_FILE
    if found.st_nlink > 1:
        return "has other names (hard links): remove it, or name another file"
    if found.st_uid != os.geteuid():
        return "belongs to another user: remove it, or name another file"
    return ""


def _reason(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "no space left on the device"
    return (error.strerror or str(error)).lower()
