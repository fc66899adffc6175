"""Names a code object: its file, qualified name, first line and line table, read from the target's memory."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from excise_agent.cpython.layout import Layout
from excise_agent.cpython.memory import Memory

MAX_NAME_CHARS: Final = 1024
MAX_LINETABLE_BYTES: Final = 1 << 17  # the standard library's largest one: 32 kB. Longer: no line is known
_MASK: Final = (1 << 64) - 1
_U32: Final = struct.Struct("<I")
_U64: Final = struct.Struct("<Q")
_ENCODING: Final = {1: "latin-1", 2: "utf-16-le", 4: "utf-32-le"}  # by kind: bytes a character


def mix(h: int, x: int) -> int:
    """One step of the hash that probes/bpf shares."""
    return (h ^ x) * 0x9E3779B97F4A7C15 & _MASK


def code_key(firstlineno: int, linetable: int, qualname: int, filename: int, *, version: int | None = None,
             name: tuple[int, int, int] = (0, 0, 0)) -> int:
    """32 bits that tell a code object from another one that comes to lie at its address.

    The arguments are the raw fields: pointers as they are, `version` is co_version (None: the layout has
    none), and then `name` is the length of the name and the two words that its first 16 bytes of data make.
    """
    h = 0
    for x in (firstlineno, linetable, qualname, filename, *(name if version is None else (version,))):
        h = mix(h, x)
    return h >> 32


@dataclass(frozen=True, slots=True)
class CodeInfo:
    """A code object, named. `key` is its code_key as read now: compare it with the key of the walk.

    `shim` marks code of the interpreter's own (the frame that completes a call to a Python `__init__`): not a
    frame that the user wrote, to be left out of stacks.
    """

    filename: str
    qualname: str
    firstlineno: int
    linetable: bytes
    key: int
    shim: bool


@dataclass(frozen=True, slots=True)
class _Fields:
    firstlineno: int
    linetable: int
    qualname: int
    filename: int
    key: int


def _fields(mem: Memory, layout: Layout, addr: int) -> _Fields | None:
    base = layout.co_base
    raw = mem.read(addr + base, layout.co_span)
    if raw is None:
        return None
    line = _U32.unpack_from(raw, layout.co_firstlineno - base)[0]
    table, qualname, filename = (_U64.unpack_from(raw, at - base)[0]
                                 for at in (layout.co_linetable, layout.co_qualname, layout.co_filename))
    if layout.co_version is not None:
        version = _U32.unpack_from(raw, layout.co_version - base)[0]
        key = code_key(line, table, qualname, filename, version=version)
        return _Fields(line, table, qualname, filename, key)
    text = mem.read(qualname + layout.str_length, layout.str_data - layout.str_length + 16)
    if text is None:
        return None
    name = (*_U64.unpack_from(text), *struct.unpack_from("<2Q", text, layout.str_data - layout.str_length))
    key = code_key(line, table, qualname, filename, name=name)
    return _Fields(line, table, qualname, filename, key)


def read_key(mem: Memory, layout: Layout, addr: int) -> int:
    """The code_key of the object at `addr`, as a walk in BPF computes it; 0 when it could not be read."""
    fields = _fields(mem, layout, addr)
    return fields.key if fields else 0


def read_code(mem: Memory, layout: Layout, addr: int, code_type: int = 0) -> CodeInfo | None:
    """The code object at `addr`; None when there is none. With `code_type` (PyCode_Type) its type is checked.

    The target runs on meanwhile, so what it holds is read between two looks at the object itself: alive both
    times, with the same key, it kept its names alive in between.
    """
    fields = _fields(mem, layout, addr) if _alive(mem, layout, addr, code_type) else None
    if fields is None:
        return None
    filename = read_str(mem, layout, fields.filename)
    qualname = read_str(mem, layout, fields.qualname)
    linetable = _read_table(mem, layout, fields.linetable)
    if filename is None or qualname is None or linetable is None:
        return None
    if _fields(mem, layout, addr) != fields or not _alive(mem, layout, addr, code_type):
        return None
    signed = fields.firstlineno - (1 << 32) if fields.firstlineno >> 31 else fields.firstlineno
    return CodeInfo(filename, qualname, signed, linetable, fields.key, fields.filename == fields.qualname)


def _alive(mem: Memory, layout: Layout, addr: int, code_type: int) -> bool:
    """A freed object's first word is the allocator's link, or 0, where a live one has its reference count.

    The count has 32 bits, immortal objects included; from 3.14 on the upper 16 bits of the word are flags.
    """
    count = mem.read_u64(addr)
    if not count or not count & 0xFFFFFFFF or count >> 32 & 0xFFFF:
        return False
    return not code_type or mem.read_u64(addr + layout.ob_type) == code_type


def read_str(mem: Memory, layout: Layout, addr: int) -> str | None:
    """A str, cut to MAX_NAME_CHARS. Only compact ones, as all names in code objects are."""
    head = mem.read(addr, layout.str_data)
    if head is None:
        return None
    length = _U64.unpack_from(head, layout.str_length)[0]
    state = _U32.unpack_from(head, layout.str_state)[0]
    kind, compact, ascii_only = state >> 2 & 7, state >> 5 & 1, state >> 6 & 1
    encoding = _ENCODING.get(kind)
    if not compact or encoding is None or (ascii_only and kind != 1) or length >> 31:
        return None
    if length == 0:
        return ""
    start = layout.str_data if ascii_only else layout.str_data_compact
    data = mem.read(addr + start, min(length, MAX_NAME_CHARS) * kind)
    return None if data is None else data.decode("ascii" if ascii_only else encoding, "replace")


def _read_table(mem: Memory, layout: Layout, addr: int) -> bytes | None:
    """A bytes object; an empty one for one that is too long."""
    size = mem.read_u64(addr + layout.bytes_size)
    if size is None:
        return None
    return mem.read(addr + layout.bytes_data, size) if 0 < size <= MAX_LINETABLE_BYTES else b""
