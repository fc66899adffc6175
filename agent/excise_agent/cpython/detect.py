"""Finds the CPython that runs in a process, by what the process has mapped. A few reads; no file of the
target is opened.

What is found is proved on a live thread before it is believed: the thread's state, reached through the
interpreter's lists, must be the one that the thread's own thread-specific data holds. That is the way the BPF
walk takes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Final

from excise_agent.cpython import debug_offsets
from excise_agent.cpython.elf import Elf, open_elf
from excise_agent.cpython.layout import LAYOUTS, SUPPORTED, Interpreter, Layout
from excise_agent.cpython.memory import Memory
from excise_agent.cpython.modules import Module, parse_maps, read_maps
from excise_agent.cpython.thread_data import find_thread_data

MAX_MODULES: Final = 512  # that are asked for an interpreter; a torch process maps about 200
_MAX_SEARCH_BYTES: Final = 32 << 20
_LIKELY: Final = re.compile(r"^libpython|^python")
_PYPY: Final = re.compile(r"^(lib)?pypy")
_GLIBC: Final = re.compile(r"^libc(\.so\.6|-2\.\d+\.so)$")
_MUSL: Final = re.compile(r"^(ld-musl-|libc\.musl-)")
_VERSION: Final = re.compile(rb"3\.(\d{1,2})\.\d{1,2}(?:(?:a|b|rc)\d{1,2})?\+?\0")
_INSIDE: Final = frozenset(bytes([c]) for c in b"0123456789.")  # what goes before a part of a longer number
_LEVELS: Final = {0xA: "a", 0xB: "b", 0xC: "rc"}


@dataclass(frozen=True, slots=True)
class NotPython:
    """No interpreter was found; `reason` is a sentence. `transient`: a process that has just started may have
    one soon.
    """

    reason: str
    transient: bool = False


@dataclass(frozen=True, slots=True)
class Unsupported:
    """There is an interpreter, and it cannot be walked; `reason` is a sentence. `transient`: it may be later.
    """

    reason: str
    transient: bool = False


Detected = Interpreter | NotPython | Unsupported


def detect(pid: int, root: str = "/proc") -> Detected:
    """The interpreter of a process. Never raises for what the process is or does."""
    try:
        modules = parse_maps(read_maps(pid, root))
        if not modules:
            return NotPython("It maps no program: it is a kernel thread, or it is starting or ending.", True)
        mem = Memory(pid, root)
    except PermissionError:
        return NotPython("Its memory map may not be read: that needs CAP_SYS_PTRACE.")
    except OSError as error:
        return NotPython(f"Its memory map cannot be read ({error.strerror}): it may have ended.")
    with mem:
        return _detect(pid, mem, modules)


def _detect(pid: int, mem: Memory, modules: list[Module]) -> Detected:
    if any(_PYPY.match(m.name) for m in modules):
        return Unsupported("It runs PyPy; Excise walks CPython stacks only.")
    old: Module | None = None
    for module in islice(sorted(modules, key=lambda m: _LIKELY.match(m.name) is None), MAX_MODULES):
        elf = open_elf(mem, module)
        if elf is None:
            continue
        if runtime := elf.find("_PyRuntime"):
            return _interpreter(pid, mem, modules, elf, runtime.addr, runtime.size)
        if old is None and elf.find("PyEval_EvalFrameEx"):
            old = module
    if old is not None:
        return Unsupported(f"{old.name} is CPython 3.6 or older; Excise walks 3.10 to 3.15.")
    return NotPython("None of the files it has mapped exports a CPython runtime.", True)


def _interpreter(pid: int, mem: Memory, modules: list[Module], elf: Elf, addr: int, size: int) -> Detected:
    found = _version(mem, elf)
    if found is None:
        return Unsupported(f"{elf.module.name} has a CPython runtime that does not tell its version.", True)
    number, version = found
    layout = _layout(mem, number, version, addr)
    if isinstance(layout, str):
        return Unsupported(f"CPython {version}: {layout}.")
    if not mem.read_u64(addr + layout.runtime_interpreters_head):
        return NotPython(f"{elf.module.name} is mapped, but no interpreter runs in it (yet).", True)
    libc = _glibc(mem, modules)
    if isinstance(libc, str):
        return Unsupported(f"CPython {version}: {libc}.")
    data = find_thread_data(mem, layout, addr, libc)
    if isinstance(data, str):
        return Unsupported(f"CPython {version}: {data}.", True)
    code_type = elf.find("PyCode_Type")
    return Interpreter(pid, version, layout, addr, size, data.tss_key, data.tss_first_block, data.tls_tstate,
                       data.pthread_tid, code_type.addr if code_type else 0, elf.module.path)


def _version(mem: Memory, elf: Elf) -> tuple[int, str] | None:
    """(0x030b, "3.11.7")"""
    if symbol := elf.find("Py_Version"):  # 3.11 on
        word = mem.read_u32(symbol.addr)
        if not word or word >> 24 != 3:
            return None
        level = _LEVELS.get(word >> 4 & 15)
        suffix = f"{level}{word & 15}" if level else ""
        return word >> 16, f"3.{word >> 16 & 255}.{word >> 8 & 255}{suffix}"
    named = re.search(r"python3\.(\d{1,2})", elf.module.name)
    for text, minor in _version_strings(mem, elf.module):
        if named is None or int(minor) == int(named[1]):
            return 0x0300 | int(minor), text
    return (0x0300 | int(named[1]), f"3.{named[1]}") if named else None


def _version_strings(mem: Memory, module: Module) -> Iterable[tuple[str, bytes]]:
    """PY_VERSION as the linker left it among the constants: a string, or the tail of another one."""
    budget, chunk = _MAX_SEARCH_BYTES, 1 << 20
    for segment in sorted(module.readable(), key=lambda s: s.executable):
        for start in range(segment.start, segment.end, chunk):
            n = min(chunk, segment.end - start)
            budget -= n
            if budget < 0:
                return
            text = mem.read(start, n) or b""
            for match in _VERSION.finditer(text):
                if text[max(0, match.start() - 1):match.start()] not in _INSIDE:
                    yield match[0][:-1].decode(), match[1]


def _layout(mem: Memory, number: int, version: str, addr: int) -> Layout | str:
    if number not in SUPPORTED:
        return "only 3.10 to 3.15 can be walked"
    if number in LAYOUTS:
        return LAYOUTS[number]
    raw = mem.read(addr, debug_offsets.SIZE_BYTES)
    if raw is None:
        return "its runtime structure cannot be read"
    if raw.startswith(debug_offsets.COOKIE) and debug_offsets.free_threaded(raw):
        return "this is a free-threaded build, which Excise cannot walk yet"
    if re.search(r"(a|b)\d+$", version):
        return "this is a pre-release, whose structures may still change"
    return debug_offsets.parse(raw, number)


def _glibc(mem: Memory, modules: list[Module]) -> Elf | str:
    for module in modules:
        if _GLIBC.match(module.name) and (elf := open_elf(mem, module)):
            return elf
    if any(_MUSL.match(m.name) for m in modules):
        return "it runs on musl, whose thread-specific data Excise cannot read yet; glibc is supported"
    return "no glibc is mapped, so its thread-specific data cannot be found"
