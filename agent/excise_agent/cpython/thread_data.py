"""Where a thread keeps the pointer to its thread state: glibc's thread-specific data, or (3.15) a
thread-local variable.

On x86-64 glibc pthread_self() is the thread's fsbase, and CPython stores it (PyThreadState.thread_id). So the
place can be checked from outside, on threads whose state the interpreter's lists already gave, without
touching registers.
"""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass
from typing import Final

import numpy as np

from excise_agent.cpython.elf import Elf
from excise_agent.cpython.layout import Layout
from excise_agent.cpython.memory import Memory
from excise_agent.cpython.walk import thread_state_addrs

SLOT_BYTES: Final = 16  # struct pthread_key_data { seq; data; }
FIRST_BLOCK_KEYS: Final = 32  # PTHREAD_KEY_2NDLEVEL_SIZE: later keys lie behind another pointer
_PTHREAD_TID: Final = 720  # in struct pthread since glibc 2.11, where libc does not tell
_PTHREAD_BYTES: Final = 2048  # of struct pthread that are searched (2304 bytes in glibc 2.36)
_PTHREAD_HEAD: Final = 704  # tcbhead_t and padding, before anything of ours
_TCB_SELF: Final = 16  # tcbhead_t.self: the address of the structure itself
_MAX_THREADS: Final = 256  # that are tried
_TLS_BYTES: Final = 1536  # below fsbase that are searched: less than what glibc keeps spare there


@dataclass(frozen=True, slots=True)
class ThreadData:
    tss_key: int = 0
    tss_first_block: int = 0  # from fsbase; 0: not by key
    tls_tstate: int = 0  # from fsbase; 0: not thread-local
    pthread_tid: int | None = None


def find_thread_data(mem: Memory, layout: Layout, runtime_addr: int, libc: Elf) -> ThreadData | str:
    """Where, or why not: half a sentence."""
    threads: list[tuple[int, int]] = []  # (tstate, fsbase)
    for tstate in thread_state_addrs(mem, layout, runtime_addr)[-_MAX_THREADS:]:
        fsbase = mem.read_u64(tstate + layout.ts_thread_id)
        if fsbase and mem.read_u64(fsbase + _TCB_SELF) == fsbase:
            threads.append((tstate, fsbase))
    if not threads:
        return "no thread of its interpreter was found where this version keeps them"
    pthread_tid = _descriptor(mem, libc, "_thread_db_pthread_tid") or _PTHREAD_TID
    if layout.runtime_tss_key is None:
        offset = _find_tls(mem, threads)
        return ThreadData(tls_tstate=offset, pthread_tid=pthread_tid) if offset else \
            "no thread-local variable holds its thread state"
    specific = _descriptor(mem, libc, "_thread_db_pthread_specific")
    first_block = specific - FIRST_BLOCK_KEYS * SLOT_BYTES if specific else 0
    key = _runtime_key(mem, runtime_addr + layout.runtime_tss_key)
    if key is not None and key >= FIRST_BLOCK_KEYS:
        return f"its thread state has TSS key {key}; only keys below {FIRST_BLOCK_KEYS} are read"
    if first_block <= 0 and key is not None:  # glibc before 2.34 does not export the descriptor
        first_block = _find_first_block(mem, threads, key)
    for candidate in (key, *range(FIRST_BLOCK_KEYS)):
        if candidate is None or first_block <= 0:
            continue
        at = first_block + SLOT_BYTES * candidate + 8
        if any(mem.read_u64(fsbase + at) == tstate for tstate, fsbase in threads):
            return ThreadData(candidate, first_block, 0, pthread_tid)
    return "its thread state is not in the thread-specific data of any of its threads"


def _descriptor(mem: Memory, libc: Elf, name: str) -> int | None:
    """The offset in a descriptor that glibc keeps for debuggers: { bits, count, offset }."""
    symbol = libc.find(name)
    raw = mem.read(symbol.addr, 12) if symbol else None
    if raw is None:
        return None
    offset = int(struct.unpack("<3I", raw)[2])
    return offset if 0 < offset < 1 << 16 else None


def _runtime_key(mem: Memory, addr: int) -> int | None:
    raw = mem.read(addr - 4, 8)
    if raw is None:
        return None
    initialised, key = struct.unpack("<2I", raw)
    return int(key) if initialised == 1 and key < 1024 else None


def _find_first_block(mem: Memory, threads: list[tuple[int, int]], key: int) -> int:
    """The block that puts the states of most threads into the slot of `key`; a slot in use has an odd
    sequence number.
    """
    votes: Counter[int] = Counter()
    for tstate, fsbase in threads:
        words = np.frombuffer(mem.read(fsbase, _PTHREAD_BYTES) or b"", dtype="<u8")
        for i in np.flatnonzero(words == tstate).tolist():
            block = 8 * (i - 1) - SLOT_BYTES * key
            if block >= _PTHREAD_HEAD and words[i - 1] & 1:
                votes[block] += 1
    return votes.most_common(1)[0][0] if votes else 0


def _find_tls(mem: Memory, threads: list[tuple[int, int]]) -> int:
    """The (negative) offset of the variable that holds its own state in most threads.

    3.15 has two. One is NULL while the thread has no GIL, so the other wins, unless the only thread runs: on
    a draw it is the lower one (Debian 3.15.2: -40 against -32).
    """
    votes: Counter[int] = Counter()
    for tstate, fsbase in threads:
        words = np.frombuffer(mem.read(fsbase - _TLS_BYTES, _TLS_BYTES) or b"", dtype="<u8")
        votes.update((8 * np.flatnonzero(words == tstate) - _TLS_BYTES).tolist())
    return max(votes, key=lambda offset: (votes[offset], -offset)) if votes else 0
