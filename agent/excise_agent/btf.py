"""Offsets of kernel structure members from /sys/kernel/btf/vmlinux.

Format: Documentation/bpf/btf.rst. Only what is asked for is looked up; the file is read once and walked once
(about 130 000 types, under 0.1 s).
"""

from __future__ import annotations

import struct
from pathlib import Path

_MAGIC = 0xEB9F
_KIND_STRUCT, _KIND_UNION = 4, 5
# bytes after btf_type, by kind: fixed, and per vlen element
_TAIL = {1: (4, 0), 3: (12, 0), 4: (0, 12), 5: (0, 12), 6: (0, 8), 13: (0, 8), 14: (4, 0), 15: (0, 12), 17: (4, 0),
         19: (0, 12)}


class BtfError(Exception):
    """The kernel's type information is missing, or lacks a member that the probes need."""


def _is_int_kind(kind: int) -> bool:
    return kind in (1, 14, 17)


class Btf:
    """Struct members by name."""

    def __init__(self, blob: bytes) -> None:
        if len(blob) < 24:
            raise BtfError("kernel type information is truncated")
        magic, _version, _flags, hdr_len, type_off, type_len, str_off, str_len = struct.unpack_from("<HBBIIIII", blob)
        if magic != _MAGIC:
            raise BtfError("kernel type information has an unknown format")
        self._blob = blob
        self._strings = hdr_len + str_off
        self._end = hdr_len + str_off + str_len
        self._starts: list[int] = [0]
        self._by_name: dict[str, int] = {}
        self._scan(hdr_len + type_off, hdr_len + type_off + type_len)

    @classmethod
    def of_kernel(cls, path: Path = Path("/sys/kernel/btf/vmlinux")) -> Btf:
        """Raises BtfError with the way out when the kernel has none."""
        try:
            return cls(path.read_bytes())
        except OSError as err:
            raise BtfError(f"{path}: {err.strerror}; the kernel needs CONFIG_DEBUG_INFO_BTF") from err

    def _name(self, offset: int) -> str:
        start = self._strings + offset
        return self._blob[start : self._blob.index(b"\0", start)].decode("ascii", "replace")

    def _scan(self, at: int, end: int) -> None:
        blob, unpack = self._blob, struct.Struct("<II").unpack_from
        starts, tail = self._starts, _TAIL
        structs: list[tuple[int, int]] = []
        while at < end:
            name_off, word = unpack(blob, at)
            kind, vlen = (word >> 24) & 0x1F, word & 0xFFFF
            if kind in (_KIND_STRUCT, _KIND_UNION) and name_off:
                structs.append((name_off, len(starts)))
            starts.append(at)
            fixed, each = tail.get(kind, (0, 0))
            at += 12 + fixed + each * vlen
        for name_off, type_id in structs:
            self._by_name.setdefault(self._name(name_off), type_id)

    def _members(self, type_id: int) -> list[tuple[str, int, int]]:
        at = self._starts[type_id]
        _, word, _size = struct.unpack_from("<III", self._blob, at)
        kind_flag, vlen = word >> 31, word & 0xFFFF
        out = []
        for i in range(vlen):
            name_off, member_type, bits = struct.unpack_from("<III", self._blob, at + 12 + 12 * i)
            out.append((self._name(name_off), member_type, (bits & 0xFFFFFF if kind_flag else bits) // 8))
        return out

    def _resolve(self, type_id: int) -> int:
        """Through typedefs and qualifiers to a struct or union, or 0."""
        for _ in range(16):
            word, ref = struct.unpack_from("<4xII", self._blob, self._starts[type_id])
            kind = (word >> 24) & 0x1F
            if kind in (_KIND_STRUCT, _KIND_UNION):
                return type_id
            if kind not in (8, 9, 10, 11, 18):
                return 0
            type_id = ref
        return 0

    def _find(self, type_id: int, member: str, depth: int = 0) -> tuple[int, int] | None:
        for name, member_type, offset in self._members(type_id):
            if name == member:
                return offset, member_type
            if not name and depth < 8 and (inner := self._resolve(member_type)):
                found = self._find(inner, member, depth + 1)
                if found:
                    return offset + found[0], found[1]
        return None

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
        total = 0
        for member in members:
            found = self._find(type_id, member) if type_id else None
            if found is None:
                raise BtfError(f"this kernel has no {path}")
            total += found[0]
            type_id = self._resolve(found[1])
        return total
