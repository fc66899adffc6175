"""A listening unix socket at a path that nobody else can have, take or lead elsewhere.

The folder is root's or ours and others cannot write to it; everything is done relative to it. One agent holds the lock
beside the socket for as long as it lives; a socket that is left over from one that died is replaced.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from pathlib import Path
from typing import Final

BACKLOG: Final = 16


class SocketError(Exception):
    """The socket cannot be had; says why, and the way out."""


class AgentRuns(SocketError):  # noqa: N818 - says what is the case
    """Another agent has it."""


class SocketFile:
    """Listening and non-blocking; 0660 and the group's, or 0600 without one. Raises SocketError."""

    def __init__(self, path: Path, gid: int | None) -> None:
        self.path = path
        self._name = path.name
        self._folder = self._lock = -1
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._identity: tuple[int, int] | None = None
        try:
            self._folder = _open_folder(path.parent, gid)
            self._lock = self._take_lock()
            self._remove_stale()
            self._bind(gid)
        except OSError as error:
            self.close()
            raise SocketError(f"{path}: cannot be made: {error.strerror or error}") from error
        except SocketError:
            self.close()
            raise

    def close(self) -> None:
        """Removes it, if it is still ours."""
        if self._identity is not None and _identity(self._name, self._folder) == self._identity:
            os.unlink(self._name, dir_fd=self._folder)
        self._identity = None
        self.socket.close()
        for fd in (self._lock, self._folder):
            if fd >= 0:
                os.close(fd)
        self._lock = self._folder = -1

    def _take_lock(self) -> int:
        name = f"{Path(self._name).stem}.lock"
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            fd = os.open(name, flags, 0o600, dir_fd=self._folder)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise SocketError(f"{self.path.parent / name} is a symbolic link: remove it") from error
            raise
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(fd)
            raise AgentRuns(f"another agent runs: it holds {self.path}") from error
        return fd

    def _remove_stale(self) -> None:
        try:
            found = os.stat(self._name, dir_fd=self._folder, follow_symlinks=False)
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(found.st_mode):
            raise SocketError(f"{self.path} is there and is not a socket: remove it")
        if found.st_uid not in (0, os.geteuid()):
            raise SocketError(f"{self.path} belongs to user {found.st_uid}: remove it")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
            code = probe.connect_ex(self._address())
        if code != errno.ECONNREFUSED:  # connected, or too many are waiting to be
            raise AgentRuns(f"another agent answers at {self.path}")
        os.unlink(self._name, dir_fd=self._folder)

    def _bind(self, gid: int | None) -> None:
        os.fchmod(self.socket.fileno(), 0o600)  # nobody gets in before the group is right
        self.socket.bind(self._address())
        self._identity = _identity(self._name, self._folder)
        if gid is not None:
            try:
                os.chown(self._name, -1, gid, dir_fd=self._folder, follow_symlinks=False)
            except PermissionError as error:
                raise SocketError(f"{self.path}: this user is not in group {gid}, and cannot give it away") from error
            os.chmod(self._name, 0o660, dir_fd=self._folder)
        self.socket.listen(BACKLOG)

    def _address(self) -> str:
        """Short, whatever the path's length (sun_path has 108 bytes), and in the very folder that was checked."""
        return f"/proc/self/fd/{self._folder}/{self._name}"


def _identity(name: str, folder: int) -> tuple[int, int] | None:
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _open_folder(folder: Path, gid: int | None) -> int:
    """Made if it is missing, 0750 and the group's."""
    try:
        folder.mkdir(mode=0o700)
        made = True
    except FileExistsError:
        made = False
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise SocketError(f"{folder} is not a folder (a link counts as none): remove it") from error
        raise
    try:
        if made:
            if gid is not None:
                os.fchown(fd, -1, gid)
            os.fchmod(fd, 0o750)
        found = os.fstat(fd)
        if found.st_uid not in (0, os.geteuid()):
            raise SocketError(f"{folder} belongs to user {found.st_uid}: it must be root's or the agent's")
        if found.st_mode & 0o022:
            raise SocketError(f"others can write to {folder}: chmod go-w")
    except BaseException:
        os.close(fd)
        raise
    return fd
