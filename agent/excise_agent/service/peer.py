"""Who is at the other end of a unix socket, as the kernel saw it when they connected."""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass
from typing import Final

_UCRED: Final = struct.Struct("iII")
_SO_PEERGROUPS: Final = 59  # asm-generic/socket.h, the same on all architectures that Python has wheels for
_MAX_GROUPS: Final = 256  # what Python's getsockopt can take: 1024 bytes


@dataclass(frozen=True, slots=True)
class Peer:
    pid: int  # in our pid namespace; 0: in none that we see
    uid: int
    groups: frozenset[int]  # the primary one too

    def may_ask(self, gid: int | None) -> bool:
        """root, our own user, and the members of the group."""
        return self.uid in (0, os.geteuid()) or (gid is not None and gid in self.groups)


def peer_of(connection: socket.socket) -> Peer:
    """Raises OSError."""
    pid, uid, gid = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 4 * _MAX_GROUPS)
    except OSError:  # more groups than that: what is not seen does not count
        raw = b""
    return Peer(pid, uid, frozenset((gid, *struct.unpack(f"{len(raw) // 4}I", raw))))
