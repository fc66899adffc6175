"""The symbols of one ELF file, and a bounded cache of such files.

A table keeps 12 bytes a symbol (address, size, name offset); names are read from the file when first asked
for. libtorch_cpu.so's few 100 000 functions are a few MB this way instead of a few hundred.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from excise_agent import _elf
from excise_agent._elf import Elf, Source
from excise_agent.demangle import demangle
from excise_agent.safe_open import Identity, Opened, Refused, open_link

MAX_SYMBOLS_READ: Final = 4 << 20    # 96 MB of symbol table: beyond every library that we know of
MAX_SYMBOLS_KEPT: Final = 1_500_000  # 18 MB; 40 MB while they are read. libtorch_cpu.so 2.13 has 350 000
MAX_NAME_BYTES: Final = 4096
MAX_NAMES: Final = 4096              # names kept per file
MAX_CRC_BYTES: Final = 512 << 20
CHUNK_SYMBOLS: Final = 1 << 16
MAX_GAP: Final = 64 << 10            # how far a symbol without a size reaches, when nothing follows
_NESTED: Final = 8                   # how many inner labels are stepped over to find the function around them

_FUNC, _NOTYPE, _IFUNC = 2, 0, 10
_EMPTY: Final[NDArray[np.uint32]] = np.empty(0, np.uint32)


class SymbolFile:
    """Names for the file offsets of one ELF file. Holds the file open until close()."""

    def __init__(self, source: Source, elf: Elf, strings: tuple[int, int], base: int,
                 table: tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[np.uint32]]) -> None:
        self._source = source
        self._elf = elf
        self._strings = strings      # offset and size of the string table
        self._base = base            # the address that `_addrs` counts from
        self._addrs, self._sizes, self._names = table
        self._cache: dict[int, str] = {}

    @property
    def nbytes(self) -> int:
        """Memory held, about."""
        return self._addrs.nbytes + self._sizes.nbytes + self._names.nbytes + 4096 + 200 * len(self._cache)

    def __len__(self) -> int:
        return len(self._addrs)

    @property
    def build_id(self) -> str:
        return self._elf.build_id

    def name_at(self, file_offset: int) -> str:
        """The demangled name of the function at a file offset; "" unknown."""
        return self.span_at(file_offset)[2]

    def span_at(self, file_offset: int) -> tuple[int, int, str]:
        """[low, high) file offsets around this one that have the same name, and the name; "" unknown."""
        vaddr = self._elf.vaddr_of(file_offset)
        if vaddr is None:
            return file_offset, file_offset + 1, ""
        low, high, index = self._find(vaddr - self._base)
        moved = file_offset - vaddr + self._base
        return low + moved, high + moved, self._name(index) if index >= 0 else ""

    def close(self) -> None:
        self._source.close()

    def _find(self, rel: int) -> tuple[int, int, int]:
        """[low, high) around an address in which the answer is the same, and the symbol's index; -1: none."""
        if not 0 <= rel < 1 << 32:
            return rel, rel + 1, -1
        last = int(self._addrs.searchsorted(np.uint32(rel), side="right")) - 1
        low = int(self._addrs[last]) if last >= 0 else 0
        high = int(self._addrs[last + 1]) if last + 1 < len(self._addrs) else 1 << 32
        for at in range(last, max(last - _NESTED, -1), -1):
            size = int(self._sizes[at])
            end = int(self._addrs[at]) + (size if size or at != last else MAX_GAP)
            if rel < end:
                return low, min(high, end), at
            low = max(low, end)
        return low, high, -1

    def _name(self, index: int) -> str:
        offset = int(self._names[index])
        known = self._cache.get(offset)
        if known is None:
            if len(self._cache) >= MAX_NAMES:
                self._cache.clear()
            known = self._cache[offset] = demangle(self._read_name(offset))
        return known

    def _read_name(self, offset: int) -> bytes:
        start, size = self._strings
        for length in (256, MAX_NAME_BYTES):
            raw = self._source.read(start + offset, min(length, size - offset))
            name, end, _ = raw.partition(b"\0")
            if end:
                return name
        return name


def load_symbols(source: Source, debug: Callable[[Elf], Source | None] = lambda _: None) -> SymbolFile | None:
    """Read the table of an open file; it, or the debug file found for it, stays open. None: closed, not
    ELF."""
    elf = _elf.read_elf(source)
    if elf is None:
        source.close()
        return None
    from_source, from_elf = source, elf
    if not np.any(elf.sections["type"] == _elf.SHT_SYMTAB) and (found := debug(elf)) is not None:
        debug_elf = _elf.read_elf(found)
        if debug_elf is not None and np.any(debug_elf.sections["type"] == _elf.SHT_SYMTAB):
            source.close()
            from_source, from_elf = found, debug_elf
        else:
            found.close()
    code = [s for s in elf.segments if s.executable]
    base = min((s.vaddr for s in code), default=0)
    top = min(max((s.vaddr + s.memsz for s in code), default=0), base + (1 << 32))
    strings, table = _read_table(from_source, from_elf, base, top)
    return SymbolFile(from_source, elf, strings, base, table)


def _read_table(source: Source, elf: Elf, base: int, top: int) -> tuple[
    tuple[int, int], tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[np.uint32]]
]:
    """String table (offset, size), and addresses from `base`, sizes, name offsets; sorted, one symbol an
    address."""
    nothing = ((0, 0), (_EMPTY, _EMPTY, _EMPTY))
    for kind in (_elf.SHT_SYMTAB, _elf.SHT_DYNSYM):
        for section in elf.sections[elf.sections["type"] == kind]:
            link = int(section["link"])
            if int(section["entsize"]) != _elf.SYM_DTYPE.itemsize or not link < len(elf.sections):
                continue
            strings = elf.sections[link]
            start, size = int(strings["offset"]), int(strings["size"])
            if int(strings["type"]) != _elf.SHT_STRTAB or start >= source.size:
                continue
            size = min(size, source.size - start)
            order, sizes, names = _read_rows(source, elf, section, base, top, size)
            if len(order):
                return (start, size), _sort(order, sizes, names)
    return nothing


_INDEX_BITS: Final = 21  # of a symbol's place in the file: beyond MAX_SYMBOLS_KEPT
_RANK_BITS: Final = 3


def _read_rows(
    source: Source, elf: Elf, section: np.void, base: int, top: int, strings_size: int
) -> tuple[NDArray[np.uint64], NDArray[np.uint32], NDArray[np.uint32]]:
    """Symbols of code in the file's order: address, rank and index in one word to sort by; sizes; name offsets."""
    in_code = np.zeros(1 << 16, dtype=np.bool_)
    in_code[: len(elf.sections)] = elf.sections["flags"] & _elf.SHF_EXECINSTR != 0
    in_code[0] = False  # undefined
    width = _elf.SYM_DTYPE.itemsize
    offset = int(section["offset"])
    left = min(int(section["size"]), max(source.size - offset, 0)) // width
    left = min(left, MAX_SYMBOLS_READ)
    room = min(left, MAX_SYMBOLS_KEPT)  # what is not written to is not there
    order, sizes, names = np.empty(room, np.uint64), np.empty(room, np.uint32), np.empty(room, np.uint32)
    kept = 0
    while left > 0 and kept < room:
        raw = source.read(offset, min(left, CHUNK_SYMBOLS) * width)
        syms = np.frombuffer(raw, _elf.SYM_DTYPE, count=len(raw) // width)
        if not len(syms):
            break
        left -= len(syms)
        offset += len(syms) * width
        kind = syms["info"] & 15
        wanted = (kind == _FUNC) | (kind == _IFUNC) | (kind == _NOTYPE)
        wanted &= in_code[syms["shndx"]] & (syms["value"] >= base) & (syms["value"] < top)
        wanted &= (syms["name"] != 0) & (syms["name"] < strings_size)
        syms = syms[wanted][: room - kept]
        rows = slice(kept, kept + len(syms))
        # Of several names for one address the best: sized, then a function, then global before local.
        sized, func, named = syms["size"] > 0, syms["info"] & 15 != _NOTYPE, syms["info"] >> 4 == 1
        rank = (4 * sized + 2 * func + named).astype(np.uint64)
        word = (syms["value"] - np.uint64(base)) << np.uint64(_RANK_BITS) | rank
        order[rows] = word << np.uint64(_INDEX_BITS) | np.arange(rows.start, rows.stop, dtype=np.uint64)
        sizes[rows] = np.minimum(syms["size"], 0xFFFFFFFF)
        names[rows] = syms["name"]
        kept += len(syms)
    return order[:kept], sizes[:kept], names[:kept]


def _sort(
    order: NDArray[np.uint64], sizes: NDArray[np.uint32], names: NDArray[np.uint32]
) -> tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[np.uint32]]:
    """By address; of those at one the last of the highest rank. In place: `order` is spent."""
    order.sort()
    index = (order & np.uint64((1 << _INDEX_BITS) - 1)).astype(np.int32)
    order >>= np.uint64(_INDEX_BITS + _RANK_BITS)
    addrs = order.astype(np.uint32)
    last = np.append(addrs[1:] != addrs[:-1], True)
    index = index[last]
    return addrs[last], sizes[index], names[index]


def debug_file(elf: Elf, build_ids: Path, links: list[Callable[[str], Opened | Refused]]) -> Opened | None:
    """The separate file with the full symbols: by build id on this host, else by .gnu_debuglink.

    `links` opens a debug-link name in each directory where it may lie. A file counts only if its build id or
    its CRC is the one asked for.
    """
    if elf.build_id:
        found = open_link(build_ids / elf.build_id[:2] / f"{elf.build_id[2:]}.debug")
        if isinstance(found, Opened):
            if _same_build(found, elf.build_id):
                return found
            found.close()
    if elf.debuglink is None:
        return None
    name, crc = elf.debuglink
    for open_name in links:
        found = open_name(name)
        if not isinstance(found, Opened):
            continue
        if _same_build(found, elf.build_id) if elf.build_id else _crc32(found) == crc:
            return found
        found.close()
    return None


def _same_build(found: Opened, build_id: str) -> bool:
    other = _elf.read_elf(found)
    return other is not None and other.build_id == build_id


def _crc32(found: Opened) -> int | None:
    if found.size > MAX_CRC_BYTES:
        return None
    crc, at = 0, 0
    while part := found.read(at, 1 << 20):
        crc = zlib.crc32(part, crc)
        at += len(part)
    return crc


class SymbolCache:
    """Symbol files by identity (device, inode, size, mtime), least recently used out first.

    The key is not the build id: a file may claim another one's, and would then name another process's
    functions.
    """

    def __init__(self, max_bytes: int = 32 << 20, max_files: int = 256) -> None:
        self._max_bytes = max_bytes
        self._max_files = max_files  # each holds a descriptor
        self._files: OrderedDict[Identity, SymbolFile | None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._files)

    @property
    def nbytes(self) -> int:
        return sum(f.nbytes for f in self._files.values() if f is not None)

    def known(self, key: Identity) -> bool:
        return key in self._files

    def get(self, key: Identity) -> SymbolFile | None:
        """The file, or None: it was looked at and is not one we can read (or it was never put in; see
        known)."""
        if key in self._files:
            self._files.move_to_end(key)
            return self._files[key]
        return None

    def put(self, key: Identity, file: SymbolFile | None) -> None:
        self.drop(key)
        self._files[key] = file
        total = self.nbytes
        while len(self._files) > 1 and (len(self._files) > self._max_files or total > self._max_bytes):
            _, old = self._files.popitem(last=False)
            if old is not None:
                total -= old.nbytes
                old.close()

    def drop(self, key: Identity) -> None:
        """Forget a file and close it, so that it does not pin its filesystem."""
        old = self._files.pop(key, None)
        if old is not None:
            old.close()

    def close(self) -> None:
        for key in list(self._files):
            self.drop(key)
