"""Offsets of kernel structure members from /sys/kernel/btf/vmlinux.

Format: Documentation/bpf/btf.rst. Only what is asked for is looked up; the file is read once and walked once
(about 130 000 types, under 0.1 s).
"""

from __future__ import annotations

import struct
from pathlib import Path

_MAGIC = 0xEB9F
_MAX_DEPTH = 16  # of typedefs and qualifiers on one type
_MAX_ANONYMOUS = 256  # structs and unions without a name in one struct
_KIND_STRUCT, _KIND_UNION, _KIND_TYPEDEF = 4, 5, 8
_TRACEPOINT = b"btf_trace_"  # the typedef of a tracepoint's arguments, include/trace/bpf_probe.h
# bytes after btf_type, by kind: fixed, and per vlen element
_TAIL = {1: (4, 0), 3: (12, 0), 4: (0, 12), 5: (0, 12), 6: (0, 8), 13: (0, 8), 14: (4, 0), 15: (0, 12), 17: (4, 0),
         19: (0, 12)}


class BtfError(Exception):
    """The kernel's type information is missing, or lacks a member that the probes need."""


class Btf:
    """Struct members by name."""

    def __init__(self, blob: bytes) -> None:
        """Raises BtfError when `blob` is not what the format says."""
        if len(blob) < 24:
            raise BtfError("kernel type information is truncated")
        magic, _version, _flags, hdr_len, type_off, type_len, str_off, str_len = struct.unpack_from("<HBBIIIII", blob)
        if magic != _MAGIC:
            raise BtfError("kernel type information has an unknown format")
        self._blob = blob
        self._strings = hdr_len + str_off
        self._end = hdr_len + str_off + str_len
        end = hdr_len + type_off + type_len
        if max(self._end, end) > len(blob):
            raise BtfError("kernel type information is truncated")
        self._starts: list[int] = [0]
        self._by_name: dict[str, int] = {}
        self._tracepoints: dict[str, int] = {}
        try:
            self._scan(hdr_len + type_off, end)
        except struct.error as err:
            raise BtfError("kernel type information is truncated") from err

    @classmethod
    def of_kernel(cls, path: Path = Path("/sys/kernel/btf/vmlinux")) -> Btf:
        """Raises BtfError with the way out when the kernel has none."""
        try:
            return cls(path.read_bytes())
        except OSError as err:
            raise BtfError(f"{path}: {err.strerror}; the kernel needs CONFIG_DEBUG_INFO_BTF") from err

    def _name(self, offset: int) -> str:
        start = self._strings + offset
        end = self._blob.find(b"\0", start, self._end)
        if end < 0:
            raise BtfError("kernel type information has a name that does not end")
        return self._blob[start:end].decode("ascii", "replace")

    def _start(self, type_id: int) -> int:
        """Where a type is. Type 0 is void and is nowhere."""
        if not 0 < type_id < len(self._starts):
            raise BtfError(f"kernel type information has no type {type_id}")
        return self._starts[type_id]

    def _scan(self, at: int, end: int) -> None:
        blob, unpack = self._blob, struct.Struct("<II").unpack_from
        starts, tail = self._starts, _TAIL
        structs: list[tuple[int, int]] = []
        while at < end:
            name_off, word = unpack(blob, at)
            kind, vlen = (word >> 24) & 0x1F, word & 0xFFFF
            if kind in (_KIND_STRUCT, _KIND_UNION) and name_off:
                structs.append((name_off, len(starts)))
            elif kind == _KIND_TYPEDEF and blob.startswith(_TRACEPOINT, self._strings + name_off):
                self._tracepoints[self._name(name_off)[len(_TRACEPOINT) :]] = len(starts)
            starts.append(at)
            fixed, each = tail.get(kind, (0, 0))
            at += 12 + fixed + each * vlen
        if at != end:
            raise BtfError("kernel type information has a type that does not end")
        for name_off, type_id in structs:
            self._by_name.setdefault(self._name(name_off), type_id)

    def _members(self, type_id: int) -> list[tuple[str, int, int]]:
        at = self._start(type_id)
        _, word, _size = struct.unpack_from("<III", self._blob, at)
        kind_flag, vlen = word >> 31, word & 0xFFFF
        out = []
        for i in range(vlen):
            name_off, member_type, bits = struct.unpack_from("<III", self._blob, at + 12 + 12 * i)
            out.append((self._name(name_off), member_type, (bits & 0xFFFFFF if kind_flag else bits) // 8))
        return out

    def _resolve(self, type_id: int) -> int:
        """Through typedefs and qualifiers to a struct or union, or 0."""
        for _ in range(_MAX_DEPTH):
            if not type_id:
                return 0
            word, ref = struct.unpack_from("<4xII", self._blob, self._start(type_id))
            kind = (word >> 24) & 0x1F
            if kind in (_KIND_STRUCT, _KIND_UNION):
                return type_id
            if kind not in (8, 9, 10, 11, 18):
                return 0
            type_id = ref
        return 0

    def _find(self, type_id: int, member: str, seen: set[int]) -> tuple[int, int] | None:
        """Offset and type of a member, also of an anonymous one's. Each type in `seen` was looked at before."""
        seen.add(type_id)
        for name, member_type, offset in self._members(type_id):
            if name == member:
                return offset, member_type
            if name or len(seen) > _MAX_ANONYMOUS:
                continue
            if (inner := self._resolve(member_type)) and inner not in seen:
                found = self._find(inner, member, seen)
                if found:
                    return offset + found[0], found[1]
        return None

    def tracepoint(self, name: str) -> int:
        """The type to load a program with that is to hang on this tracepoint; 0: the kernel has none."""
        return self._tracepoints.get(name, 0)

    def has(self, path: str) -> bool:
        """Whether `path` exists in this kernel."""
        try:
            self.offset(path)
        except BtfError:
            return False
        return True

    def offset(self, path: str) -> int:
        """Byte offset of "struct.member.member", through anonymous members. Raises BtfError if there is none."""
        struct_name, *members = path.split(".")
        type_id = self._by_name.get(struct_name, 0)
        if not type_id:
            raise BtfError(f"this kernel has no {path}")
        total = 0
        for member in members:
            found = self._find(type_id, member, set()) if type_id else None
            if found is None:
                raise BtfError(f"this kernel has no {path}")
            total += found[0]
            type_id = self._resolve(found[1])
        return total
