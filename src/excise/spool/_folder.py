"""The spool's folder: who may own it, and its files, opened relative to it and never through a link."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from pathlib import Path
from typing import Final

from excise.spool.errors import SpoolError

_SEGMENT = re.compile(r"([0-9]{10})\.summaries")
_CURSOR = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,63})\.cursor")
LAST_FILE: Final = 10**10 - 1

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PLAIN: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY  # a FIFO without a writer would block


def segment_name(number: int) -> str:
    return f"{number:010}.summaries"


def cursor_name(name: str) -> str:
    """ValueError for what is no name of a file."""
    if not _CURSOR.fullmatch(f"{name}.cursor"):
        raise ValueError(f"{name!r} cannot name a cursor: up to 64 letters, digits, '_', '-' and '.'")
    return f"{name}.cursor"


class Folder:
    """An open folder. `own`: to be written, so it is to be ours alone to write (SpoolError); it is made if it is not
    there."""

    def __init__(self, path: Path, *, own: bool) -> None:
        self.path = path
        try:
            if own:
                _make(path)
            self.fd = os.open(path, _DIRECTORY)
        except OSError as error:
            raise SpoolError(f"{path}: {_objection(error)}") from error
        try:
            if own:
                _check(path, os.fstat(self.fd))
        except BaseException:
            os.close(self.fd)
            raise

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def segments(self) -> list[int]:
        """Numbers of the files that are named as segments are, ascending, whatever they are."""
        with os.scandir(self.fd) as found:
            return sorted(int(match[1]) for entry in found if (match := _SEGMENT.fullmatch(entry.name)))

    def cursors(self) -> list[str]:
        """Names of the files that are named as cursors' are."""
        with os.scandir(self.fd) as found:
            return sorted(entry.name for entry in found if _CURSOR.fullmatch(entry.name))

    def size(self, name: str) -> int | None:
        """None: it is not there, or no plain file of the folder's owner."""
        try:
            found = os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except OSError:
            return None
        ours = stat.S_ISREG(found.st_mode) and found.st_uid == os.fstat(self.fd).st_uid
        return found.st_size if ours else None

    def open_plain(self, name: str) -> int | None:
        """To read. None: it is not there, may not be read, or is no plain file of the folder's owner."""
        try:
            fd = os.open(name, os.O_RDONLY | _PLAIN, dir_fd=self.fd)
        except OSError:
            return None
        found = os.fstat(fd)
        if stat.S_ISREG(found.st_mode) and found.st_uid == os.fstat(self.fd).st_uid:
            return fd
        os.close(fd)
        return None

    def open_own(self, name: str) -> int:
        """To read and write; made if it is not there. SpoolError for what is no plain file of ours."""
        path = self.path / name
        try:
            fd = os.open(name, os.O_RDWR | os.O_CREAT | _PLAIN, 0o600, dir_fd=self.fd)
        except OSError as error:
            raise SpoolError(f"{path}: {_objection(error)}") from error
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1 or found.st_uid != os.geteuid():
            os.close(fd)
            raise SpoolError(f"{path} is not a plain file of this user with one name: remove it")
        return fd

    def create(self, name: str) -> int:
        """A file that was not there, to append to. Raises OSError."""
        return os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _PLAIN, 0o600, dir_fd=self.fd)

    def remove(self, name: str) -> None:
        """Raises OSError; FileNotFoundError too."""
        os.unlink(name, dir_fd=self.fd)

    def replace(self, name: str, content: bytes) -> None:
        """A whole file in place of the one before, on the disk. Raises OSError."""
        beside = f"{name}.new"
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _PLAIN, 0o600, dir_fd=self.fd)
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(fd, view):]
            os.fdatasync(fd)
        finally:
            os.close(fd)
        os.rename(beside, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)

    def sync(self) -> None:
        """The names of its files. Raises OSError."""
        os.fsync(self.fd)


def _make(path: Path) -> None:
    with contextlib.suppress(FileExistsError):
        path.mkdir(0o700)


def _check(path: Path, found: os.stat_result) -> None:
    if found.st_uid != os.geteuid():
        raise SpoolError(f"{path} belongs to another user (uid {found.st_uid}, this is uid {os.geteuid()}): name "
                         "another folder, or change its owner")
    if found.st_mode & 0o022:
        raise SpoolError(f"{path} may be written by others (mode {stat.S_IMODE(found.st_mode):04o}): chmod 0700 it")


def _objection(error: OSError) -> str:
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return "is a symbolic link or no folder: name the folder itself"
    if error.errno == errno.ENXIO:
        return "is not a plain file: remove it"
    if error.errno == errno.ENOENT:
        return "there is no such folder"
    return (error.strerror or str(error)).lower()
