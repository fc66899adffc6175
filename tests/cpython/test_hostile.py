"""Targets that lie: whatever their memory and their maps say, nothing raises, and nothing runs on for long.
"""

from __future__ import annotations

import random
import struct
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from excise_agent.cpython import (
    CodeInfo,
    Interpreter,
    Layout,
    Memory,
    NotPython,
    Unsupported,
    code_key,
    detect,
    read_code,
    thread_states,
    walk,
)
from excise_agent.cpython import debug_offsets as offsets
from excise_agent.cpython.code import read_str
from excise_agent.cpython.layout import LAYOUTS

PID = 4242


class Garbage(Memory):
    """Any address answers; pointers in it lead to more of it."""

    def __init__(self, seed: int, data: bytes) -> None:
        self._fd = -1
        self.seed, self.data, self.reads = seed, data, 0

    def read(self, addr: int, n: int) -> bytes | None:
        self.reads += 1
        if not 4096 <= addr < 1 << 47 or not 0 < n <= 4 << 20:
            return None
        if len(self.data) < 8:
            return random.Random(self.seed ^ addr).randbytes(n) if addr % 5 else None
        at = addr % len(self.data)
        return (self.data[at:] + self.data * (n // len(self.data) + 1))[:n]


def interpreter(layout: Layout) -> Interpreter:
    return Interpreter(PID, "3.x", layout, 0x10000, 600, 0, 784, 0, 720, 0, "")


# words that are pointers into the garbage make longer chains than bytes alone would
words = st.lists(st.integers(0, 1 << 20) | st.integers(0, (1 << 64) - 1) | st.just(1), max_size=40)


@given(st.integers(0, 1 << 32), words, st.sampled_from(list(LAYOUTS.values())), st.integers(0, 1 << 48))
@settings(max_examples=200, deadline=None)
def test_garbage_memory(seed: int, data: list[int], layout: Layout, addr: int) -> None:
    mem = Garbage(seed, struct.pack(f"<{len(data)}Q", *data))
    assert isinstance(read_code(mem, layout, addr), CodeInfo | None)
    assert isinstance(read_str(mem, layout, addr), str | None)
    assert len(walk(mem, interpreter(layout), addr)) <= 512
    mem.reads = 0
    thread_states(mem, interpreter(layout))
    assert mem.reads < 500_000


class Endless(Garbage):
    """Lists without an end that never repeat: of interpreters, or of threads of the one interpreter at
    0x1000000.
    """

    def __init__(self, layout: Layout, threads: bool) -> None:
        super().__init__(0, b"")
        self.layout, self.threads = layout, threads

    def read_u64(self, addr: int) -> int | None:
        self.reads += 1
        if self.threads and addr % 4096 == self.layout.ts_interp:
            return 0x1000000
        if self.threads and addr == 0x10000 + self.layout.runtime_interpreters_head:
            return 0x1000000
        return (addr & ~4095) + 4096


@pytest.mark.parametrize("threads", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=[hex(version) for version in LAYOUTS])
def test_endless_lists(layout: Layout, threads: bool) -> None:
    mem = Endless(layout, threads)
    thread_states(mem, interpreter(layout))
    assert 256 < mem.reads < 500_000


@given(words, st.sampled_from(sorted([0x030D, 0x030E, 0x030F])))
def test_garbage_debug_offsets(data: list[int], version: int) -> None:
    body = struct.pack(f"<{len(data)}Q", *data).ljust(offsets.SIZE_BYTES, b"\x20")
    raw = offsets.COOKIE + struct.pack("<QQ", version << 16, 0) + body
    assert isinstance(offsets.parse(raw, version), str | Layout)
    assert isinstance(offsets.parse(raw[: len(data)], version), str)


@cache
def image() -> bytes:
    """The start of a real ELF file of the kind that is looked for, with its symbol tables."""
    files = sorted(Path("/usr/lib/x86_64-linux-gnu").glob("libc.so.6"))
    return files[0].read_bytes()[: 256 * 1024]


def check_fake_process(maps: bytes, memory: bytes, at: int) -> None:
    with TemporaryDirectory() as root:
        process = Path(root) / str(PID)
        process.mkdir()
        (process / "maps").write_bytes(maps)
        with (process / "mem").open("wb") as mem:
            mem.seek(at)
            mem.write(memory)
        assert isinstance(detect(PID, root), NotPython | Unsupported)


@given(st.lists(st.tuples(st.integers(0, 256 * 1024 - 8), st.binary(min_size=1, max_size=8)), max_size=40),
       st.sampled_from(["python3.11", "libpython3.10.so.1.0", "libc.so.6", "x (deleted)", "pypy"]))
@settings(max_examples=60, deadline=None)
def test_broken_elf(changes: list[tuple[int, bytes]], name: str) -> None:
    memory = bytearray(image())
    for where, what in changes:
        start = where % 1024 if len(what) & 1 else where  # half of them in the headers
        memory[start:start + len(what)] = what
    maps = (f"00100000-00140000 r-xp 00000000 08:01 7 /{name}\n"
            f"00140000-00400000 r-xp 00040000 08:01 7 /{name}\n").encode()
    check_fake_process(maps, bytes(memory), 0x100000)


@given(st.binary(max_size=300), st.binary(max_size=4096))
@settings(max_examples=60, deadline=None)
def test_garbage_maps(tail: bytes, memory: bytes) -> None:
    check_fake_process(b"00010000-00011000 r-xp 00000000 08:01 7 /python\n" + tail, memory, 0x10000)


@pytest.mark.parametrize("missing", ["maps", "mem", "both"])
def test_missing_files(missing: str, tmp_path: Path) -> None:
    (tmp_path / str(PID)).mkdir()
    if missing != "maps" and missing != "both":
        (tmp_path / str(PID) / "maps").write_bytes(b"")
    assert isinstance(detect(PID, str(tmp_path)), NotPython)


def test_key_is_as_the_header_defines_it() -> None:
    """Constants that the C side can be tested with."""
    assert code_key(7, 0x7F0000001000, 0x7F0000002000, 0x7F0000003000, version=9) == 0x6101C4F3
    assert code_key(7, 0x7F0000001000, 0x7F0000002000, 0x7F0000003000, name=(4, 5, 6)) == 0xFFB1C77B
