"""Where CPython keeps what a stack walk reads: byte offsets, one `Layout` a version, and the record that BPF
gets.

3.10 to 3.12 come from a table: offsetof on the internal headers of GIL builds for x86-64, checked on live
3.10.13, 3.11.2, 3.11.7 and 3.12.1. From 3.13 on the interpreter carries its own offsets: see `debug_offsets`.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from excise.records import PROC_DTYPE, PROC_FIELDS

WALK_FIELDS: Final = PROC_FIELDS
"""The fields of the walk record, as data; the C header is generated from the same table."""

PROC_WALK_DTYPE: Final = PROC_DTYPE

NONE16: Final = 0xFFFF  # "there is no such field", in the walk record
SHIM_OWNER: Final = 3  # frames whose owner is this or more belong to the interpreter itself (3.12 on)
SUPPORTED: Final = (0x030A, 0x030B, 0x030C, 0x030D, 0x030E, 0x030F)
MAX_FRAME_BYTES: Final = 128  # of a frame that a walk reads in one go
MAX_CODE_BYTES: Final = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Offsets in bytes. None: that version has no such field."""

    version: int  # 0x030b
    # _PyRuntime; PyInterpreterState; PyThreadState
    runtime_tss_key: int | None  # autoTSSkey._key; the int before it says whether it is initialised
    runtime_interpreters_head: int
    is_next: int
    is_threads_head: int
    ts_next: int
    ts_interp: int
    ts_thread_id: int  # pthread_t, which on x86-64 glibc is the thread's fsbase
    ts_native_thread_id: int | None
    ts_frame: int  # the frame, or the cframe
    cframe_frame: int | None
    # _PyInterpreterFrame (3.10: PyFrameObject)
    f_code: int
    f_back: int
    f_instr: int  # instruction pointer (3.10: the int f_lasti, in code units)
    f_owner: int | None
    # PyCodeObject
    co_firstlineno: int
    co_code_adaptive: int | None
    co_linetable: int
    co_qualname: int  # 3.10: co_name
    co_filename: int
    co_version: int | None
    # PyASCIIObject, PyCompactUnicodeObject, PyBytesObject: in GIL builds the versions differ in sizes only
    str_data: int  # sizeof(PyASCIIObject)
    str_data_compact: int  # sizeof(PyCompactUnicodeObject): where the characters lie that are not ASCII
    str_length: int = 16
    str_state: int = 32  # u32: interned 2 bits, kind 3, compact 1, ascii 1
    bytes_size: int = 16
    bytes_data: int = 32
    ob_type: int = 8

    @property
    def f_size(self) -> int:
        """Bytes that hold every field of a frame that the walk needs, in whole words but for 3.10's last int.
        """
        ends = [self.f_code + 8, self.f_back + 8, self.f_instr + (4 if self.co_code_adaptive is None else 8)]
        if self.f_owner is not None:
            ends.append((self.f_owner + 8) & ~7)
        return max(ends)

    @property
    def co_base(self) -> int:
        return min(self.co_firstlineno, self.co_linetable, self.co_qualname, self.co_filename)

    @property
    def co_span(self) -> int:
        ends = [self.co_firstlineno + 4, self.co_linetable + 8, self.co_qualname + 8, self.co_filename + 8]
        return max(ends) - self.co_base


_TABLE: Final = (
    Layout(version=0x030A, runtime_tss_key=588, runtime_interpreters_head=32, is_next=0, is_threads_head=8,
           ts_next=8, ts_interp=16, ts_thread_id=176, ts_native_thread_id=None,
           ts_frame=24, cframe_frame=None,
           f_code=32, f_back=24, f_instr=96, f_owner=None,
           co_firstlineno=40, co_code_adaptive=None, co_linetable=120, co_qualname=112, co_filename=104,
           co_version=None, str_data=48, str_data_compact=72),
    Layout(version=0x030B, runtime_tss_key=596, runtime_interpreters_head=40, is_next=0, is_threads_head=16,
           ts_next=8, ts_interp=16, ts_thread_id=152, ts_native_thread_id=160, ts_frame=56, cframe_frame=8,
           f_code=32, f_back=48, f_instr=56, f_owner=69,
           co_firstlineno=72, co_code_adaptive=184, co_linetable=136, co_qualname=128, co_filename=112,
           co_version=None, str_data=48, str_data_compact=72),
    Layout(version=0x030C, runtime_tss_key=1548, runtime_interpreters_head=40, is_next=0, is_threads_head=72,
           ts_next=8, ts_interp=16, ts_thread_id=136, ts_native_thread_id=144, ts_frame=56, cframe_frame=0,
           f_code=0, f_back=8, f_instr=56, f_owner=70,
           co_firstlineno=68, co_code_adaptive=192, co_linetable=136, co_qualname=128, co_filename=112,
           co_version=92, str_data=40, str_data_compact=56),
)

LAYOUTS: Final = {layout.version: layout for layout in _TABLE}
"""The versions that do not describe themselves."""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A CPython found in a process: where it is, and how to walk its threads."""

    pid: int
    version: str  # "3.11.7"; "3.10" when the micro version is not to be had
    layout: Layout
    runtime_addr: int  # of _PyRuntime
    runtime_size: int
    tss_key: int
    tss_first_block: int  # from fsbase to pthread's specific_1stblock; 0: use tls_tstate
    tls_tstate: int  # from fsbase to a thread-local pointer to the thread state (3.15); 0: use the TSS key
    pthread_tid: int | None  # offset of the tid in glibc's struct pthread
    code_type: int  # address of PyCode_Type; 0 unknown
    path: str  # of the file that holds the runtime, as the target sees it
    # Of the hashes that its stacks, and its forks', go by. Chains of all processes are kept by hash: without it a
    # program could make up a chain that goes by another one's hash, and have that one's time under its own names.
    seed: int = field(default_factory=lambda: secrets.randbits(64), compare=False, repr=False)

    def walk_record(self) -> np.void:
        """What BPF needs, as one PROC_WALK_DTYPE element. `flags` is left to the caller."""
        o = self.layout
        optional = {"cframe_frame": o.cframe_frame, "f_owner": o.f_owner,
                    "co_code_adaptive": o.co_code_adaptive, "co_version": o.co_version}
        values = {
            "runtime_addr": self.runtime_addr, "runtime_size": self.runtime_size, "seed": self.seed,
            "tss_key": self.tss_key,
            "tss_first_block": self.tss_first_block, "tls_tstate": self.tls_tstate, "version": o.version,
            "ts_frame": o.ts_frame, "f_code": o.f_code, "f_back": o.f_back, "f_instr": o.f_instr,
            "f_size": o.f_size, "co_firstlineno": o.co_firstlineno, "co_linetable": o.co_linetable,
            "co_qualname": o.co_qualname, "co_filename": o.co_filename, "str_length": o.str_length,
            "str_data": o.str_data, "co_base": o.co_base, "co_span": o.co_span,
            **{name: NONE16 if value is None else value for name, value in optional.items()},
        }
        records = np.zeros(1, PROC_WALK_DTYPE)
        for name, value in values.items():
            records[name] = value
        record: np.void = records[0]
        return record
