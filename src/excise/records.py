"""Fixed-size records that probes and Python share, each defined once, here.

`probes/include/records.h` is generated from these tables (`python -m excise.records > probes/include/records.h`),
committed, and compared by a test with what a C compiler says. Times are CLOCK_MONOTONIC ns. `pid` is the process
(the kernel's tgid), `tid` the thread, both as the host's pid namespace numbers them.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from excise.names import DROPS, FD_CLASSES, KERNEL_STATES

Fields = tuple[tuple[str, str, int, str], ...]  # name, numpy type, array length (1: scalar), what it means

MAX_PY_FRAMES: Final = 512
MAX_KERNEL_FRAMES: Final = 32
WAKER_IRQ: Final = 0xFFFFFFFF
WEIGHT_ONE: Final = 256

REC_SAMPLE, REC_WAIT, REC_STACK, REC_TASK = 1, 2, 3, 4
STACK_PYTHON, STACK_KERNEL = 0, 1
TASK_FORK, TASK_EXEC, TASK_EXIT, TASK_NS = 0, 1, 2, 3
FLAG_KERNEL_MODE, FLAG_FAULT, FLAG_CUT = 1, 2, 4
THREAD_CARRIER, THREAD_DEAD, THREAD_SNAPSHOT, THREAD_WAS_RUNNABLE, THREAD_RENUMBERED = 1, 2, 4, 8, 16
PROC_CHILDREN, PROC_EXECED = 1, 2
PROG_CPU, PROG_SWITCH, PROG_WAKING, PROG_TASK, PROG_WAKEUP = 0, 1, 2, 3, 4
WATCHED_SLOTS: Final = 16384

SLICE_FIELDS: Fields = (
    ("type", "u1", 1, "REC_SAMPLE or REC_WAIT"),
    ("state", "u1", 1, "KSTATE_*: what the thread waited in; KSTATE_RUNNING for samples"),
    ("flags", "u1", 1, "FLAG_*"),
    ("fd_class", "u1", 1, "FD_*"),
    ("tid", "u4", 1, ""),
    ("pid", "u4", 1, ""),
    ("waker", "u4", 1, "tid of who ended the wait; 0 unknown; WAKER_IRQ an interrupt"),
    ("syscall", "i2", 1, "number; -1: none"),
    ("port", "u2", 1, "local port of an inet socket, else 0"),
    ("fd", "u1", 1, "0..253; 254: larger; 255: none"),
    ("pad", "u1", 3, "zero"),
    ("ts_ns", "u8", 1, "when it ended (waits), when it was taken (samples)"),
    ("value_ns", "u8", 1, "waits: ns in `state`; samples: 0"),
    ("runnable_ns", "u8", 1, "waits: run-queue delay after the waking"),
    ("stack", "u8", 1, "hash of the Python chain; 0: none"),
    ("kstack", "u8", 1, "hash of the kernel chain; 0: none"),
    ("ip", "u8", 1, "user-space instruction pointer"),
    ("weight", "u4", 1, "in WEIGHT_ONE: how many records this one stands for; its times are its own"),
    ("pad2", "u4", 1, "zero"),
)

STACK_FIELDS: Fields = (
    ("type", "u1", 1, "REC_STACK"),
    ("kind", "u1", 1, "STACK_*"),
    ("flags", "u1", 1, "FLAG_CUT: deeper frames are missing"),
    ("pad", "u1", 1, "zero"),
    ("tid", "u4", 1, ""),
    ("pid", "u4", 1, ""),
    ("count", "u4", 1, "frames that follow (python: struct py_frame; kernel: u64)"),
    ("hash", "u8", 1, "what records call it"),
)

PY_FRAME_FIELDS: Fields = (
    ("code", "u8", 1, "address of the code object; 0: an interpreter shim, to be skipped"),
    ("key", "u4", 1, "hash of what the code object held when it was read"),
    ("lasti", "u4", 1, "byte offset of the instruction in its code; 0xffffffff unknown"),
)

TASK_FIELDS: Fields = (
    ("type", "u1", 1, "REC_TASK"),
    ("event", "u1", 1, "TASK_*"),
    ("pad", "u1", 2, "zero"),
    ("tid", "u4", 1, ""),
    ("pid", "u4", 1, ""),
    ("parent", "u4", 1, "TASK_FORK: the parent's pid; TASK_NS: the pid in the agent's namespace"),
    ("ts_ns", "u8", 1, ""),
)

THREAD_FIELDS: Fields = (
    ("done", "u8", 1, "updates completed; equal to `started` when the value was read whole"),
    ("pid", "u4", 1, ""),
    ("state", "u1", 1, "KSTATE_* it is in since `since_ns`"),
    ("flags", "u1", 1, "THREAD_*"),
    ("fd_class", "u1", 1, "of the open wait"),
    ("fd", "u1", 1, "of the open wait"),
    ("since_ns", "u8", 1, ""),
    ("in_ns", "u8", 1, "when it was last switched in"),
    ("wake_ns", "u8", 1, "when it last came on a run queue; written by on_wakeup only"),
    ("waker", "u4", 1, "who woke it last"),
    ("syscall", "i2", 1, "of the open wait"),
    ("port", "u2", 1, "of the open wait"),
    ("stack", "u8", 1, "Python chain of the open wait, else the last one seen"),
    ("ip", "u8", 1, "of the open wait"),
    ("born_ns", "u8", 1, "when tracking began"),
    ("wait_flags", "u4", 1, "FLAG_* of the open wait"),
    ("host_tid", "u4", 1, "the kernel's own number, where the agent is in another pid namespace; 0 unknown"),
    ("weight", "u4", 1, "of the open wait's record, in WEIGHT_ONE; 0: it was not walked and will have none"),
    ("last_state", "u4", 1, "KSTATE_* before it was last switched in"),
    ("last_delay_ns", "u8", 1, "run-queue delay before that, by the wall clock"),
    ("exec_ns", "u8", 1, "the scheduler's sum_exec_runtime at the last switch-out; 0: none yet"),
    ("delay_ns", "u8", 1, "its run_delay there"),
    ("end_ns", "u8", 1, "when it began to exit; 0: it lives"),
    ("end_exec_ns", "u8", 1, "sum_exec_runtime there"),
    ("end_delay_ns", "u8", 1, "run_delay there"),
    ("last_wait_us", "u4", len(KERNEL_STATES), "how long it last was in each state off the CPU, at most 71 minutes"),
    ("phase", "u4", 1, "control.phase at its last switch; another one: what it did since is not known"),
    ("state_ns", "u8", len(KERNEL_STATES), "exact sums of closed intervals"),
    ("started", "u8", 1, "updates begun"),
)

PROC_FIELDS: Fields = (
    ("runtime_addr", "u8", 1, "_PyRuntime; 0: no interpreter known"),
    ("runtime_size", "u8", 1, "a futex inside it is the GIL"),
    ("seed", "u8", 1, "of the hashes of its stacks: no other program can make up one that is equal"),
    ("tss_key", "u4", 1, "autoTSSkey"),
    ("tss_first_block", "u4", 1, "from fsbase to pthread's specific_1stblock; 0: unusable"),
    ("tls_tstate", "i4", 1, "from fsbase to a thread-local tstate; 0: unused"),
    ("version", "u2", 1, "0x030b; 0: do not walk"),
    ("flags", "u2", 1, "PROC_*"),
    ("ts_frame", "u2", 1, "in PyThreadState: the frame, or the cframe"),
    ("cframe_frame", "u2", 1, "in the cframe: the frame; 0xffff: there is no cframe"),
    ("f_code", "u2", 1, ""),
    ("f_back", "u2", 1, ""),
    ("f_instr", "u2", 1, "instruction pointer; on 3.10 the int f_lasti"),
    ("f_owner", "u2", 1, "0xffff: none"),
    ("f_size", "u2", 1, "bytes to read of a frame, at most 96"),
    ("co_firstlineno", "u2", 1, ""),
    ("co_code_adaptive", "u2", 1, "0xffff: lasti is an index (3.10)"),
    ("co_linetable", "u2", 1, ""),
    ("co_qualname", "u2", 1, ""),
    ("co_filename", "u2", 1, ""),
    ("co_version", "u2", 1, "0xffff: none"),
    ("str_length", "u2", 1, ""),
    ("str_data", "u2", 1, ""),
    ("co_base", "u2", 1, "lowest of the co_* offsets that the key needs"),
    ("co_span", "u2", 1, "bytes from there that hold them all, at most 120"),
    ("pad", "u2", 3, "zero"),
)

COST_FIELDS: Fields = (
    ("runs", "u8", 1, ""),
    ("timed_runs", "u8", 1, "one run in 64 is timed"),
    ("timed_ns", "u8", 1, ""),
)

CONTROL_FIELDS: Fields = (
    ("walk_one_in", "u4", 1, "of the shortest waits one in so many is walked, of longer ones more; 0 or 1: all"),
    ("phase", "u4", 1, "counts up whenever the switch hooks are put on again"),
    ("phase_ns", "u8", 1, "when that was"),
    ("block_ns", "u8", 1, "a shorter wait is sent with the probability of its length over this; 0: all are"),
    ("sample_weight", "u4", 1, "of a timer sample, in WEIGHT_ONE: more than one when the rate is lowered"),
    ("pad", "u4", 1, "zero"),
)

STRUCTS: Final[dict[str, Fields]] = {
    "rec_slice": SLICE_FIELDS,
    "rec_stack": STACK_FIELDS,
    "py_frame": PY_FRAME_FIELDS,
    "rec_task": TASK_FIELDS,
    "thread": THREAD_FIELDS,
    "proc": PROC_FIELDS,
    "cost": COST_FIELDS,
    "control": CONTROL_FIELDS,
}


def dtype_of(fields: Fields) -> np.dtype[np.void]:
    """The numpy dtype of a struct, with C alignment; raises if the table left padding implicit."""
    dtype = np.dtype([(n, "<" + t) if k == 1 else (n, "<" + t, (k,)) for n, t, k, _ in fields], align=True)
    packed = sum(np.dtype(t).itemsize * k for _, t, k, _ in fields)
    if dtype.itemsize != packed:
        raise ValueError(f"implicit padding: {packed} bytes of fields in a struct of {dtype.itemsize}")
    return dtype


RAW_SLICE_DTYPE: Final = dtype_of(SLICE_FIELDS)
RAW_STACK_DTYPE: Final = dtype_of(STACK_FIELDS)
RAW_PY_FRAME_DTYPE: Final = dtype_of(PY_FRAME_FIELDS)
RAW_TASK_DTYPE: Final = dtype_of(TASK_FIELDS)
THREAD_DTYPE: Final = dtype_of(THREAD_FIELDS)
PROC_DTYPE: Final = dtype_of(PROC_FIELDS)
COST_DTYPE: Final = dtype_of(COST_FIELDS)
CONTROL_DTYPE: Final = dtype_of(CONTROL_FIELDS)

_C_TYPES = {"u1": "u8", "u2": "u16", "u4": "u32", "u8": "u64", "i2": "s16", "i4": "s32"}


def _constants() -> dict[str, int]:
    named = {k: v for k, v in globals().items()
             if k.startswith(("REC_", "STACK_", "TASK_", "FLAG_", "THREAD_", "PROC_", "PROG_", "MAX_", "WAKER_",
                              "WEIGHT_", "WATCHED_"))
             and isinstance(v, int)}
    named |= {f"KSTATE_{n.upper()}": i for i, n in enumerate(KERNEL_STATES)}
    named |= {f"FD_{n.upper()}": i for i, n in enumerate(FD_CLASSES)}
    named |= {f"DROP_{n.upper()}": i for i, n in enumerate(DROPS)}
    named["N_KSTATES"], named["N_DROPS"], named["N_PROGS"] = len(KERNEL_STATES), len(DROPS), 5
    return named


def c_header() -> str:
    """The text of probes/include/records.h."""
    out = ["// SPDX-License-Identifier: GPL-2.0-only",
           "// Generated by `python -m excise.records`; edit src/excise/records.py instead.",
           "// Times are CLOCK_MONOTONIC ns. pid is the process (tgid), tid the thread, in the host's numbers.",
           "#ifndef EXCISE_RECORDS_H", "#define EXCISE_RECORDS_H", ""]
    out += [f"#define {name} {value:#x}u" if value > 0x7FFFFFFF else f"#define {name} {value}"
            for name, value in _constants().items()]
    for name, fields in STRUCTS.items():
        out += ["", f"struct {name} {{"]
        for field, kind, length, meaning in fields:
            array = f"[{length}]" if length > 1 else ""
            out.append(f"\t{_C_TYPES[kind]} {field}{array};" + (f" // {meaning}" if meaning else ""))
        out.append("};")
    return "\n".join([*out, "", "#endif", ""])


if __name__ == "__main__":
    import sys

    sys.stdout.write(c_header())
