"""The agent's id: what its sequence numbers are of. Made once, kept for ever."""

from __future__ import annotations

import os
import re
import uuid
from pathlib import Path
from typing import Final

from excise.spool._folder import Folder
from excise.spool.errors import SpoolError

_NAME: Final = "agent-id"
_ID: Final = re.compile(rb"([0-9a-f]{32})\n?")


def agent_id(state_dir: Path) -> str:
    """32 hex digits, out of the file `agent-id`, which is made if it is not there. SpoolError: the folder is not ours
    alone to write, or the file is not what it should be. A copy of the folder (a cloned machine) needs another id:
    remove the file there."""
    folder = Folder(state_dir, own=True)
    try:
        known = _read(folder)
        if known is None:
            _make(folder)
            known = _read(folder)
    except OSError as error:
        raise SpoolError(f"{state_dir / _NAME}: {(error.strerror or str(error)).lower()}") from error
    finally:
        folder.close()
    if known is None or not (match := _ID.fullmatch(known)):
        raise SpoolError(f"{state_dir / _NAME} is not an agent's id: remove it; sinks will then take this for a new "
                         "agent")
    return match[1].decode()


def _read(folder: Folder) -> bytes | None:
    """None: there is no such file. Empty: what is there is no plain file of ours."""
    try:
        os.stat(_NAME, dir_fd=folder.fd, follow_symlinks=False)
    except FileNotFoundError:
        return None
    fd = folder.open_plain(_NAME)
    if fd is None:
        return b""
    try:
        return os.pread(fd, 64, 0)
    finally:
        os.close(fd)


def _make(folder: Folder) -> None:
    """Whole and on the disk before it has its name; whoever is first wins. Raises OSError."""
    made = uuid.uuid4().hex
    beside = f"{_NAME}.{made}.new"
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder.fd)
    try:
        os.write(fd, made.encode() + b"\n")
        os.fsync(fd)
        os.link(beside, _NAME, src_dir_fd=folder.fd, dst_dir_fd=folder.fd)
        folder.sync()
    except FileExistsError:
        pass
    finally:
        os.close(fd)
        os.unlink(beside, dir_fd=folder.fd)
