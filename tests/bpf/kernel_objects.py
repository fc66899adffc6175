"""Which BPF programs, maps and links exist on this host, and who holds them: by bpf(2) and /proc alone."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_SYS_BPF = 321
_NEXT_ID = {"programs": 11, "maps": 12, "links": 31}
_PROG_BY_ID, _INFO_BY_FD = 13, 15
_NAME_AT = 64  # of struct bpf_prog_info


def _bpf(command: int, attr: bytearray) -> int:
    buffer = (ctypes.c_char * len(attr)).from_buffer(attr)
    result: int = _libc.syscall(_SYS_BPF, command, buffer, len(attr))
    return result


def ids(kind: str) -> set[int]:
    """Of all "programs", "maps" or "links" of the kernel."""
    found: set[int] = set()
    attr = bytearray(16)
    while _bpf(_NEXT_ID[kind], attr) == 0:
        following = struct.unpack_from("<I", attr, 4)[0]
        found.add(following)
        struct.pack_into("<I", attr, 0, following)
    assert ctypes.get_errno() == errno.ENOENT, os.strerror(ctypes.get_errno())
    return found


def program_name(program: int) -> str:
    """ "" when it is gone."""
    fd = _bpf(_PROG_BY_ID, bytearray(struct.pack("<III", program, 0, 0) + bytes(4)))
    if fd < 0:
        return ""
    try:
        info = ctypes.create_string_buffer(256)
        attr = bytearray(struct.pack("<IIQ", fd, len(info), ctypes.addressof(info)))
        assert _bpf(_INFO_BY_FD, attr) == 0, os.strerror(ctypes.get_errno())
        return info.raw[_NAME_AT : _NAME_AT + 16].split(b"\0")[0].decode()
    finally:
        os.close(fd)


def anonymous_descriptors(pid: int) -> list[str]:
    """What a process holds of the kernel: ["anon_inode:bpf-map", "anon_inode:[perf_event]", ...]."""
    out = []
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            out.append(os.readlink(fd))
        except OSError:
            continue
    return [name for name in out if name.startswith("anon_inode:")]


def ids_of(pid: int) -> dict[str, set[int]]:
    """The ids behind the descriptors that a process holds, as its fdinfo tells them."""
    keys = {"prog_id": "programs", "map_id": "maps", "link_id": "links"}
    found: dict[str, set[int]] = {kind: set() for kind in keys.values()}
    for info in Path(f"/proc/{pid}/fdinfo").iterdir():
        try:
            text = info.read_text()
        except OSError:
            continue
        own = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        for key in ("link_id", "map_id", "prog_id"):  # a link tells its program too
            if key in own:
                found[keys[key]].add(int(own[key]))
                break
    return found
