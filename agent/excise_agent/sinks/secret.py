"""Secrets come from files, which not everybody may read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_MOST_BYTES = 4096


def read_secret(path: Path, what: str) -> bytes:
    """The content without the line's end. ValueError with a sentence: `what` names the secret."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not block
    except OSError as error:
        raise ValueError(f"{what} {path}: {os.strerror(error.errno or 0)}") from error
    try:
        _check(os.fstat(fd).st_mode, path, what)
        content = os.read(fd, _MOST_BYTES + 1)
    finally:
        os.close(fd)
    if len(content) > _MOST_BYTES:
        raise ValueError(f"{what} {path}: has more than {_MOST_BYTES} bytes, which is no secret")
    secret = content.rstrip(b"\r\n")
    if not secret:
        raise ValueError(f"{what} {path}: is empty; write the secret into it")
    return secret


def check_private(path: Path, what: str) -> None:
    """ValueError if others may read a file that a library is going to read."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise ValueError(f"{what} {path}: {os.strerror(error.errno or 0)}") from error
    _check(mode, path, what)


def _check(mode: int, path: Path, what: str) -> None:
    if not stat.S_ISREG(mode):
        raise ValueError(f"{what} {path}: is not a file")
    if mode & 0o007:
        raise ValueError(f"{what} {path}: everybody may read it; chmod o-rwx {path}")
