"""A file to write to. Root may write where others can write too: only a plain file of its own is opened."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


class OutputFile:
    """Whole writes or none. `target` is a path, "-" for standard output, or a descriptor, which stays the caller's.

    `what` names the content ("recording"); `error` is raised, once, with a sentence that names the file. After that
    `failed` is true and writes do nothing: the session goes on.
    """

    def __init__(self, target: str | Path | int, what: str, error: type[Exception]) -> None:
        self.path = "standard output" if target in ("-", 1) else str(target)
        self.failed = False
        self.bytes_written = 0
        self._what, self._error = what, error
        self._own = not (isinstance(target, int) or target == "-")
        if isinstance(target, int):
            self._fd = target
        else:
            self._fd = self._create(Path(target)) if self._own else 1
        if os.isatty(self._fd):
            raise error(f"{self.path} is a terminal, a {what} is binary: name a file")

    def write(self, content: bytes) -> None:
        """All of it, or the file as it was and the error."""
        if self.failed:
            return
        view = memoryview(content)
        try:
            while view:
                view = view[os.write(self._fd, view):]
        except OSError as error:
            self._abandon()
            raise self._error(f"{self.path}: {_reason(error)}; the {self._what} ends here, after "
                              f"{self.bytes_written} bytes") from error
        self.bytes_written += len(content)

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        self.failed = True
        if self._own and fd >= 0:
            os.close(fd)

    def _abandon(self) -> None:
        self.failed = True
        if self._own:
            os.ftruncate(self._fd, self.bytes_written)  # only shrinks: works on a full disk

    def _create(self, path: Path) -> int:
        """A new file, 0600, or an old one of ours, emptied. Never through a link, never a device or FIFO."""
        flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY
        not_a_file = f"is not a regular file: a {self._what} is written to a file or to standard output (-)"
        try:
            return os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            pass
        except OSError as error:
            raise self._error(f"{path}: cannot be created: {_reason(error)}") from error
        try:
            fd = os.open(path, flags | os.O_NONBLOCK)  # a FIFO without a reader would block
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise self._error(f"{path} is a symbolic link: name the file itself") from error
            if error.errno in (errno.ENXIO, errno.EISDIR):
                raise self._error(f"{path} {not_a_file}") from error
            raise self._error(f"{path}: cannot be written: {_reason(error)}") from error
        found = os.fstat(fd)
        why = not_a_file if not stat.S_ISREG(found.st_mode) else _objection(found)
        if why:
            os.close(fd)
            raise self._error(f"{path} {why}")
        os.set_blocking(fd, True)
        os.fchmod(fd, 0o600)
        os.ftruncate(fd, 0)
        return fd


def _objection(found: os.stat_result) -> str:
    if found.st_nlink > 1:
        return "has other names (hard links): remove it, or name another file"
    if found.st_uid != os.geteuid():
        return "belongs to another user: remove it, or name another file"
    return ""


def _reason(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "no space left on the device"
    return (error.strerror or str(error)).lower()
