"""Just enough of ELF for symbols: headers, segments, sections, notes. 64-bit little-endian only.

The files are a target's and may be hostile: every count is capped, every read is bounded by the file,
nothing is followed in a loop, and a malformed file gives None or fewer symbols, never an exception.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

MAX_SEGMENTS: Final = 128
MAX_SECTIONS: Final = 8192
MAX_NOTES_BYTES: Final = 64 << 10
MAX_SECTION_NAMES_BYTES: Final = 1 << 20

PT_LOAD: Final = 1
PT_NOTE: Final = 4
PF_X: Final = 1
SHT_SYMTAB: Final = 2
SHT_STRTAB: Final = 3
SHT_DYNSYM: Final = 11
SHF_EXECINSTR: Final = 4
_NT_GNU_BUILD_ID: Final = 3

_EHDR: Final = np.dtype([
    ("ident", "V16"), ("type", "<u2"), ("machine", "<u2"), ("version", "<u4"), ("entry", "<u8"),
    ("phoff", "<u8"), ("shoff", "<u8"), ("flags", "<u4"), ("ehsize", "<u2"), ("phentsize", "<u2"),
    ("phnum", "<u2"), ("shentsize", "<u2"), ("shnum", "<u2"), ("shstrndx", "<u2"),
])
_PHDR: Final = np.dtype([
    ("type", "<u4"), ("flags", "<u4"), ("offset", "<u8"), ("vaddr", "<u8"), ("paddr", "<u8"),
    ("filesz", "<u8"), ("memsz", "<u8"), ("align", "<u8"),
])
_SHDR: Final = np.dtype([
    ("name", "<u4"), ("type", "<u4"), ("flags", "<u8"), ("addr", "<u8"), ("offset", "<u8"), ("size", "<u8"),
    ("link", "<u4"), ("info", "<u4"), ("addralign", "<u8"), ("entsize", "<u8"),
])
SYM_DTYPE: Final = np.dtype([
    ("name", "<u4"), ("info", "u1"), ("other", "u1"), ("shndx", "<u2"), ("value", "<u8"), ("size", "<u8"),
])


class Source(Protocol):
    """Bytes that can be read at an offset; short or empty beyond the end."""

    @property
    def size(self) -> int: ...
    def read(self, offset: int, size: int) -> bytes: ...
    def close(self) -> None: ...


class BytesSource:
    """A file image in memory (the vDSO)."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def size(self) -> int:
        return len(self._data)

    def read(self, offset: int, size: int) -> bytes:
        return self._data[offset : offset + size] if offset >= 0 and size > 0 else b""

    def close(self) -> None:
        self._data = b""


@dataclass(frozen=True, slots=True)
class Segment:
    """One PT_LOAD."""

    offset: int
    vaddr: int
    filesz: int
    memsz: int
    executable: bool


@dataclass(frozen=True, slots=True)
class Elf:
    segments: tuple[Segment, ...]
    sections: NDArray[np.void]      # raw section headers, possibly none
    build_id: str                   # lower-case hex; "" none
    debuglink: tuple[str, int] | None  # file name, crc32

    def vaddr_of(self, file_offset: int) -> int | None:
        """The address that the file's own headers give to a file offset, through the segment that maps it."""
        for s in self.segments:
            first = s.offset & ~0xFFF  # the kernel maps whole pages
            if s.executable and first <= file_offset < s.offset + s.filesz:
                return s.vaddr + file_offset - s.offset
        return None


def read_elf(source: Source) -> Elf | None:
    """None: not a 64-bit little-endian ELF file."""
    raw = source.read(0, _EHDR.itemsize)
    if len(raw) < _EHDR.itemsize or raw[:6] != b"\x7fELF\x02\x01":
        return None
    head = np.frombuffer(raw, _EHDR)[0]
    count, entry = int(head["phnum"]), int(head["phentsize"])
    phdrs = _table(source, int(head["phoff"]), count, entry, _PHDR, MAX_SEGMENTS)
    sections = _sections(source, int(head["shoff"]), int(head["shnum"]), int(head["shentsize"]))
    debuglink = _debuglink(source, sections, int(head["shstrndx"]))
    segments = tuple(
        Segment(int(p["offset"]), int(p["vaddr"]), int(p["filesz"]), int(p["memsz"]), bool(p["flags"] & PF_X))
        for p in phdrs[phdrs["type"] == PT_LOAD]
    )
    return Elf(segments, sections, _build_id(source, phdrs), debuglink)


def _table(
    source: Source, offset: int, count: int, entry: int, dtype: np.dtype[np.void], cap: int
) -> NDArray[np.void]:
    if entry != dtype.itemsize or offset <= 0:
        return np.empty(0, dtype)
    raw = source.read(offset, min(count, cap) * entry)
    return np.frombuffer(raw, dtype, count=len(raw) // entry)


def _sections(source: Source, offset: int, count: int, entry: int) -> NDArray[np.void]:
    if count == 0:  # more than 0xff00 sections: the first one's size has the number
        first = _table(source, offset, 1, entry, _SHDR, 1)
        count = int(first[0]["size"]) if len(first) else 0
    return _table(source, offset, count, entry, _SHDR, MAX_SECTIONS)


def _build_id(source: Source, phdrs: NDArray[np.void]) -> str:
    for p in phdrs[phdrs["type"] == PT_NOTE]:
        raw = source.read(int(p["offset"]), min(int(p["filesz"]), MAX_NOTES_BYTES))
        at = 0
        while at + 12 <= len(raw):
            name_size, desc_size, kind = struct.unpack_from("<III", raw, at)
            desc = at + 12 + (name_size + 3 & ~3)
            if kind == _NT_GNU_BUILD_ID and raw[at + 12 : at + 16] == b"GNU\0" and 4 <= desc_size <= 64:
                return raw[desc : desc + desc_size].hex()
            at = desc + (desc_size + 3 & ~3)
    return ""


def _debuglink(source: Source, sections: NDArray[np.void], names_index: int) -> tuple[str, int] | None:
    if not names_index < len(sections):
        return None
    strings = sections[names_index]
    names = source.read(int(strings["offset"]), min(int(strings["size"]), MAX_SECTION_NAMES_BYTES))
    wanted = names.find(b".gnu_debuglink\0")
    if wanted < 0:
        return None
    for s in sections[sections["name"] == wanted]:
        raw = source.read(int(s["offset"]), min(int(s["size"]), 4096))
        name, end, _ = raw.partition(b"\0")
        at = len(name) + 4 & ~3
        if end and name and b"/" not in name and name not in (b".", b"..") and len(raw) >= at + 4:
            return name.decode("utf-8", "surrogateescape"), int.from_bytes(raw[at : at + 4], "little")
    return None
