"""Looks up exported symbols of a mapped ELF file in the memory of the process that mapped it.

The dynamic linker needs DT_SYMTAB, DT_STRTAB and a hash table in memory, so they are there whatever became of
the file (deleted, replaced, in another mount namespace, stripped of its section headers). A lookup is a few
reads of some bytes, and no file of the target is opened.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from excise_agent.cpython.memory import Memory
from excise_agent.cpython.modules import Module

_EHDR: Final = struct.Struct("<16sHHIQQQIHHHHHH")
_PHDR: Final = struct.Struct("<IIQQQQQQ")
_SYM: Final = struct.Struct("<IBBHQQ")
_GNU_HASH: Final = struct.Struct("<IIII")
_IDENT: Final = b"\x7fELF\x02\x01\x01"  # 64-bit, little-endian
_X86_64: Final = 62
_ET_EXEC, _ET_DYN = 2, 3
_PT_LOAD, _PT_DYNAMIC = 1, 2
_PF_X: Final = 1
_DT_HASH, _DT_STRTAB, _DT_SYMTAB, _DT_GNU_HASH = 4, 5, 6, 0x6FFFFEF5
_MAX_PHDRS: Final = 64
_MAX_DYNAMIC_BYTES: Final = 16 * 1024
_MAX_CHAIN: Final = 256  # symbols in one hash bucket; real tables hold a few
_PAGE: Final = 4096


@dataclass(frozen=True, slots=True)
class Symbol:
    addr: int  # in the target's memory
    size: int


@dataclass(frozen=True, slots=True)
class Elf:
    """The dynamic symbol table of one mapped file."""

    mem: Memory
    module: Module
    bias: int
    symtab: int
    strtab: int
    gnu_hash: int  # 0: none
    sysv_hash: int  # 0: none

    def find(self, name: str) -> Symbol | None:
        """The exported definition of `name`."""
        wanted = name.encode()
        if self.gnu_hash:
            return self._find_gnu(wanted)
        if self.sysv_hash:
            return self._find_sysv(wanted)
        return None

    def _symbol(self, index: int, wanted: bytes) -> Symbol | None:
        raw = self.mem.read(self.symtab + _SYM.size * index, _SYM.size)
        if raw is None:
            return None
        st_name, _, _, shndx, value, size = _SYM.unpack(raw)
        if not shndx or not value or self.mem.read(self.strtab + st_name, len(wanted) + 1) != wanted + b"\0":
            return None
        return Symbol(self.bias + value, size)

    def _find_gnu(self, wanted: bytes) -> Symbol | None:
        head = self.mem.read(self.gnu_hash, _GNU_HASH.size)
        if head is None:
            return None
        buckets, first, bloom_words, _ = _GNU_HASH.unpack(head)
        if not buckets:
            return None
        h = 5381
        for c in wanted:
            h = (h * 33 + c) & 0xFFFFFFFF
        at = self.gnu_hash + _GNU_HASH.size + 8 * bloom_words
        index = self.mem.read_u32(at + 4 * (h % buckets))
        if not index or index < first:
            return None
        chain = at + 4 * buckets
        for i in range(index, index + _MAX_CHAIN):
            link = self.mem.read_u32(chain + 4 * (i - first))
            if link is None:
                return None
            if (link ^ h) >> 1 == 0 and (found := self._symbol(i, wanted)):
                return found
            if link & 1:
                return None
        return None

    def _find_sysv(self, wanted: bytes) -> Symbol | None:
        buckets = self.mem.read_u32(self.sysv_hash)
        if not buckets:
            return None
        h = 0
        for c in wanted:
            h = (h << 4) + c
            h = (h ^ ((h & 0xF0000000) >> 24)) & 0x0FFFFFFF
        at = self.sysv_hash + 8
        index = self.mem.read_u32(at + 4 * (h % buckets))
        for _ in range(_MAX_CHAIN):
            if not index:
                return None
            if found := self._symbol(index, wanted):
                return found
            index = self.mem.read_u32(at + 4 * (buckets + index))
        return None


def open_elf(mem: Memory, module: Module) -> Elf | None:
    """The module's dynamic symbols; None when it is not an ELF file that the dynamic linker loaded.

    A file may also be mapped as mere data, at offset 0 as well: the copy that counts is the one whose code is
    mapped.
    """
    for segment in module.segments[:64]:
        if segment.offset == 0 and segment.readable and (elf := _open_at(mem, module, segment.start)):
            return elf
    return None


def _open_at(mem: Memory, module: Module, start: int) -> Elf | None:
    raw = mem.read(start, _EHDR.size)
    if raw is None:
        return None
    ident, kind, machine, _, _, phoff, _, _, _, phentsize, phnum, _, _, _ = _EHDR.unpack(raw)
    if not ident.startswith(_IDENT) or kind not in (_ET_EXEC, _ET_DYN) or machine != _X86_64 \
            or phentsize != _PHDR.size or not 0 < phnum <= _MAX_PHDRS:
        return None
    table = mem.read(start + phoff, phnum * _PHDR.size)  # the linker maps them; patchelf may move them far
    if table is None:
        return None
    phdrs = list(_PHDR.iter_unpack(table))
    loads = [(flags, offset, vaddr) for p, flags, offset, vaddr, *_ in phdrs if p == _PT_LOAD]
    first = next((vaddr - offset for _, offset, vaddr in loads if offset < _PAGE), None)
    if first is None:
        return None
    bias = start - first
    if kind == _ET_EXEC and bias:
        return None
    if not any(flags & _PF_X and module.maps_code_at(bias + vaddr) for flags, _, vaddr in loads):
        return None
    for p, _, _, vaddr, _, _, memsz, _ in phdrs:
        if p == _PT_DYNAMIC:
            return _dynamic(mem, module, bias, mem.read(bias + vaddr, min(memsz, _MAX_DYNAMIC_BYTES) & ~15))
    return None


def _dynamic(mem: Memory, module: Module, bias: int, raw: bytes | None) -> Elf | None:
    if raw is None:
        return None
    tags: dict[int, int] = {}
    for tag, value in struct.iter_unpack("<QQ", raw):
        if tag == 0:
            break
        tags.setdefault(tag, value)
    # glibc adds the load bias to these in place; musl leaves them as in the file
    low = min(s.start for s in module.segments)

    def address(tag: int) -> int:
        value = tags.get(tag, 0)
        return value if not value or value >= low else bias + value

    if not tags.get(_DT_SYMTAB) or not tags.get(_DT_STRTAB):
        return None
    return Elf(mem, module, bias, address(_DT_SYMTAB), address(_DT_STRTAB),
               address(_DT_GNU_HASH), address(_DT_HASH))
