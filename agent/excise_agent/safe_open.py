"""Opens files that belong to a target. The target may be hostile, and we may be root.

A path is resolved inside the target's own root: symlinks and ".." cannot leave it (openat2,
RESOLVE_IN_ROOT). A name is first opened with O_PATH, which has no side effect on devices, FIFOs and sockets,
and is reopened for reading only when it is a regular file of sane size. Read with pread, never mmap: a
target that truncates a mapped file would kill us with SIGBUS.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self, TypeAlias

Reason: TypeAlias = Literal[
    "gone",         # no such process, mapping or file
    "denied",       # permission
    "not_regular",  # a device, FIFO, socket or directory
    "too_large",    # beyond the size cap
    "escape",       # a symlink loop, or a path that may not be resolved
    "replaced",     # another file has this name now
    "failed",       # anything else; detail has the errno
]

MAX_FILE_BYTES: Final = 8 << 30  # libtorch_cuda.so with debug information is 3-4 GB
_PATH_FLAGS: Final = os.O_PATH | os.O_CLOEXEC
_READ_FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_SYS_OPENAT2: Final = 437  # the same number on every architecture
_RESOLVE_NO_MAGICLINKS: Final = 0x02
_RESOLVE_IN_ROOT: Final = 0x10
_REASONS: Final[dict[int, Reason]] = {
    errno.ENOENT: "gone", errno.ESRCH: "gone", errno.ENOTDIR: "gone", errno.ESTALE: "gone",
    errno.EACCES: "denied", errno.EPERM: "denied",
    errno.ELOOP: "escape", errno.EXDEV: "escape", errno.ENAMETOOLONG: "escape",
}


@dataclass(frozen=True, slots=True)
class Identity:
    """What must be equal for two opened files to have the same content."""

    dev: int
    inode: int
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a file was not opened."""

    reason: Reason
    detail: str = ""


class Opened:
    """A regular file, open for reading. Closes its descriptor on close(), on leaving `with`, or when
    collected."""

    __slots__ = ("fd", "identity")

    def __init__(self, fd: int, identity: Identity) -> None:
        self.fd = fd
        self.identity = identity

    @property
    def size(self) -> int:
        return self.identity.size

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes at `offset`; fewer at the end, after a truncation, or on an error."""
        if self.fd < 0 or size <= 0 or not 0 <= offset < 1 << 62:
            return b""
        parts = []
        while size > 0:
            try:
                part = os.pread(self.fd, size, offset)
            except OSError:
                break
            if not part:
                break
            parts.append(part)
            offset += len(part)
            size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


def open_in_root(
    pid: int, path: str, proc: Path = Path("/proc"), max_bytes: int = MAX_FILE_BYTES
) -> Opened | Refused:
    """Open `path` as process `pid` would see it, seen from its own root directory."""
    try:
        root = os.open(proc / str(pid) / "root", _PATH_FLAGS | os.O_DIRECTORY)
    except OSError as exc:
        return _refused(exc)
    try:
        fd = _resolve(root, path)
    except OSError as exc:
        return _refused(exc)
    except ValueError:  # a NUL in the path
        return Refused("gone", "not a path")
    finally:
        os.close(root)
    return _reopen(fd, max_bytes)


def open_exe(pid: int, proc: Path = Path("/proc"), max_bytes: int = MAX_FILE_BYTES) -> Opened | Refused:
    """Open the program that `pid` runs, deleted or not."""
    return open_link(proc / str(pid) / "exe", max_bytes)


def open_mapping(
    pid: int, start: int, end: int, proc: Path = Path("/proc"), max_bytes: int = MAX_FILE_BYTES
) -> Opened | Refused:
    """Open the very file that is mapped at [start, end), deleted or replaced or not.

    Needs CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE; without them it is "denied" and the path has to do.
    """
    return open_link(proc / str(pid) / "map_files" / f"{start:x}-{end:x}", max_bytes)


def open_link(path: Path, max_bytes: int = MAX_FILE_BYTES) -> Opened | Refused:
    """Open what a magic link of /proc, or a path that no target can write to, leads to."""
    try:
        fd = os.open(path, _PATH_FLAGS)
    except OSError as exc:
        return _refused(exc)
    return _reopen(fd, max_bytes)


def _refused(exc: OSError) -> Refused:
    return Refused(_REASONS.get(exc.errno or 0, "failed"), exc.strerror or type(exc).__name__)


def _reopen(fd: int, max_bytes: int) -> Opened | Refused:
    """Turn an O_PATH descriptor into a readable one, if it is what we read. Closes `fd`."""
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            return Refused("not_regular", stat.filemode(found.st_mode)[:1])
        if found.st_size > max_bytes:
            return Refused("too_large", f"{found.st_size} bytes")
        readable = os.open(f"/proc/self/fd/{fd}", _READ_FLAGS)
    except OSError as exc:
        return _refused(exc)
    finally:
        os.close(fd)
    return Opened(readable, Identity(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns))


class _OpenHow(ctypes.Structure):
    """struct open_how (linux/openat2.h)."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_libc = ctypes.CDLL(None, use_errno=True)
_openat2_missing = threading.Event()  # an old kernel, or a seccomp filter that does not know it


def _resolve(root: int, path: str) -> int:
    """An O_PATH descriptor of `path` below the directory `root`, whatever links lie on the way."""
    raw = os.fsencode(path)
    if b"\0" in raw:
        raise ValueError(path)
    if not _openat2_missing.is_set():
        how = _OpenHow(_PATH_FLAGS, 0, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
        name, size = ctypes.c_char_p(raw), ctypes.c_size_t(ctypes.sizeof(how))
        fd = int(_libc.syscall(_SYS_OPENAT2, root, name, ctypes.byref(how), size))
        if fd >= 0:
            return fd
        code = ctypes.get_errno()
        if code not in (errno.ENOSYS, errno.EAGAIN):
            raise OSError(code, os.strerror(code))
        if code == errno.ENOSYS:
            _openat2_missing.set()
    return _walk(root, raw)


def _walk(root: int, path: bytes) -> int:
    """The same without openat2: step by step, and no symlink is followed at all."""
    parts = [p for p in path.split(b"/") if p not in (b"", b".")]
    if b".." in parts:
        raise OSError(errno.EXDEV, "'..' in a path")
    fd = os.dup(root)
    for part in parts:
        try:
            below = os.open(part, _PATH_FLAGS | os.O_NOFOLLOW, dir_fd=fd)
        finally:
            os.close(fd)
        fd = below
        if stat.S_ISLNK(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(errno.ELOOP, "a symlink, and openat2 is missing")
    return fd
