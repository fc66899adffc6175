"""Network facts of a target, from the files of its network namespace."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
MAX_DESCRIPTORS: Final = 50_000  # looked at per process; 10 000 take 15 ms
_LISTEN: Final = b"0A"
_INNER: Final = (b"lo", b"docker", b"br-", b"veth", b"cni", b"cali", b"flannel", b"virbr", b"ifb", b"dummy")
"""Interfaces whose bytes never left the host, or pass a physical interface a second time."""


def read_net_bytes(pid: int, proc: Path = PROC) -> tuple[int, int] | None:
    """(in, out) since boot of the network namespace that `pid` is in: others may share it, on a bare host
    all do."""
    try:
        text = (proc / str(pid) / "net/dev").read_bytes()
    except OSError:
        return None
    received = sent = 0
    for line in text.splitlines()[2:]:
        name, _, counters = line.partition(b":")
        fields = counters.split()
        if len(fields) < 16 or name.strip().startswith(_INNER):
            continue
        try:
            received, sent = received + int(fields[0]), sent + int(fields[8])
        except ValueError:
            return None
    return received, sent


def read_listen_ports(pids: Iterable[int], proc: Path = PROC) -> list[int] | None:
    """TCP ports that processes of a tree listen on, sorted. None: the descriptors of none could be read."""
    ports: set[int] = set()
    listening: dict[str, dict[bytes, int]] = {}  # network namespace -> socket inode -> port
    readable = False
    for pid in pids:
        inodes = _socket_inodes(pid, proc)
        if inodes is None:
            continue
        readable = True
        if inodes:
            try:
                namespace = os.readlink(f"{proc}/{pid}/ns/net")  # noqa: PTH115
            except OSError:
                namespace = str(pid)
            if namespace not in listening:
                listening[namespace] = _listening(pid, proc)
            ports.update(port for inode, port in listening[namespace].items() if inode in inodes)
    return sorted(ports) if readable else None


def _socket_inodes(pid: int, proc: Path) -> set[bytes] | None:
    folder = f"{proc}/{pid}/fd"
    found: set[bytes] = set()
    try:
        with os.scandir(folder) as entries:
            for seen, entry in enumerate(entries):
                if seen >= MAX_DESCRIPTORS:
                    break
                try:
                    link = os.readlink(entry.path)  # noqa: PTH115
                except OSError:
                    continue
                if link.startswith("socket:["):
                    found.add(link[8:-1].encode())
    except OSError:
        return None
    return found


def _listening(pid: int, proc: Path) -> dict[bytes, int]:
    """Socket inode -> port. The kernel lists listening sockets first: what follows may be 100 000
    connections."""
    found: dict[bytes, int] = {}
    for name in ("tcp", "tcp6"):
        try:
            with (proc / str(pid) / "net" / name).open("rb") as lines:
                next(lines, None)
                for line in lines:
                    fields = line.split(None, 10)
                    if len(fields) < 10 or fields[3] != _LISTEN:
                        break
                    found[fields[9]] = int(fields[1].rpartition(b":")[2], 16)
        except (OSError, ValueError):
            continue
    return found
