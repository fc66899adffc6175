"""Walks blocked threads from outside: the snapshot at attach. Its frames equal those that the BPF walk
records.
"""

from __future__ import annotations

import struct
from typing import Final

from excise.records import MAX_PY_FRAMES
from excise_agent.cpython.code import mix, read_key
from excise_agent.cpython.layout import SHIM_OWNER, Interpreter, Layout
from excise_agent.cpython.lines import UNKNOWN_LASTI
from excise_agent.cpython.memory import Memory

FrameRecord = tuple[int, int, int]  # code address, key, lasti

MAX_INTERPRETERS: Final = 256
MAX_THREADS: Final = 32768  # of all interpreters; the kernel's default pid_max
_TAG: Final = ~3  # 3.14 keeps two tag bits in the pointer to the code; objects are aligned to 8 or more
_U32: Final = struct.Struct("<I")
_U64: Final = struct.Struct("<Q")


def thread_state_addrs(mem: Memory, layout: Layout, runtime_addr: int) -> list[int]:
    """Every PyThreadState, those of the first interpreter last. Broken or circular lists end early."""
    out: list[int] = []
    seen: set[int] = set()
    interp = mem.read_u64(runtime_addr + layout.runtime_interpreters_head)
    for _ in range(MAX_INTERPRETERS):
        if not interp or interp in seen:
            break
        seen.add(interp)
        tstate = mem.read_u64(interp + layout.is_threads_head)
        while tstate and tstate not in seen and len(out) < MAX_THREADS:
            if mem.read_u64(tstate + layout.ts_interp) != interp:
                break
            seen.add(tstate)
            out.append(tstate)
            tstate = mem.read_u64(tstate + layout.ts_next)
        interp = mem.read_u64(interp + layout.is_next)
    return out


def thread_states(mem: Memory, interp: Interpreter) -> dict[int, int]:
    """Native tid (in the target's own pid namespace) -> PyThreadState.

    A thread with a state in several interpreters gets the one of the first interpreter, as its TSS slot
    holds.
    """
    layout = interp.layout
    out: dict[int, int] = {}
    for tstate in thread_state_addrs(mem, layout, interp.runtime_addr):
        tid: int | None = None
        if layout.ts_native_thread_id is not None:
            tid = mem.read_u64(tstate + layout.ts_native_thread_id)
        elif interp.pthread_tid is not None:
            pthread = mem.read_u64(tstate + layout.ts_thread_id)
            tid = mem.read_u32(pthread + interp.pthread_tid) if pthread else None
        if tid and tid < 1 << 22:
            out[tid] = tstate
    return out


def walk(mem: Memory, interp: Interpreter, tstate: int, max_frames: int = MAX_PY_FRAMES) -> list[FrameRecord]:
    """The frames of a thread that is not running, leaf first, without the interpreter's own. Cut where memory
    fails.
    """
    layout = interp.layout
    frame = mem.read_u64(tstate + layout.ts_frame)
    if frame and layout.cframe_frame is not None:
        frame = mem.read_u64(frame + layout.cframe_frame)
    keys: dict[int, int] = {}
    out: list[FrameRecord] = []
    for _ in range(max_frames):
        if not frame:
            break
        raw = mem.read(frame, layout.f_size)
        if raw is None:
            break
        code = _U64.unpack_from(raw, layout.f_code)[0] & _TAG
        if code and not (layout.f_owner is not None and raw[layout.f_owner] >= SHIM_OWNER):
            if code not in keys:
                keys[code] = read_key(mem, layout, code)
            out.append((code, keys[code], _lasti(layout, raw, code)))
        frame = _U64.unpack_from(raw, layout.f_back)[0]
    return out


def _lasti(layout: Layout, raw: bytes, code: int) -> int:
    if layout.co_code_adaptive is None:
        units = _U32.unpack_from(raw, layout.f_instr)[0]
        return int(units * 2) if units < 0x3FFFFFFF else UNKNOWN_LASTI
    instr = _U64.unpack_from(raw, layout.f_instr)[0]
    offset = instr - (code + layout.co_code_adaptive)
    return int(offset) if 0 <= offset < 0x7FFFFFFF else UNKNOWN_LASTI


def stack_hash(frames: list[FrameRecord], seed: int, flags: int = 0) -> int:
    """What records call this chain. `seed`: the interpreter's. `flags` (FLAG_CUT) makes a cut chain another stack than
    the whole one.
    """
    h = seed
    for code, key, lasti in frames:
        h = mix(h, code)
        h = mix(h, lasti << 32 | key)
        h ^= h >> 29
    return (h + flags) & ((1 << 64) - 1) or 1
