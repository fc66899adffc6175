"""bpf(2) and perf_event_open(2) through ctypes: what the parent needs once the bytecode is compiled.

The parent never maps bcc or LLVM (61 MB): a child compiles with bcc, this module loads. Numbers are from
include/uapi/linux/bpf.h and perf_event.h, x86-64.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_libc = ctypes.CDLL(None, use_errno=True)
_SYS_PERF_EVENT_OPEN, _SYS_BPF = 298, 321

_MAP_CREATE, _MAP_LOOKUP, _MAP_UPDATE, _MAP_DELETE, _PROG_LOAD = 0, 1, 2, 3, 5
_PROG_TEST_RUN, _RAW_TRACEPOINT_OPEN, _MAP_FREEZE, _MAP_LOOKUP_BATCH = 10, 17, 22, 24
_OBJ_NAME_LEN = 16
_BATCH_SLACK = 1024  # a batch ends with whole buckets, and entries may come while it reads; without room: ENOSPC

PROG_PERF_EVENT, PROG_RAW_TRACEPOINT, PROG_TRACING, PROG_SYSCALL = 7, 17, 26, 31
_TRACE_RAW_TP = 23  # expected_attach_type of a raw tracepoint with types
MAP_ARRAY, MAP_PERCPU_ARRAY, MAP_LRU_HASH, MAP_RINGBUF = 2, 6, 9, 27
BPF_ANY, BPF_NOEXIST = 0, 1

_PERF_IOC_ENABLE, _PERF_IOC_DISABLE = 0x2400, 0x2401
_PERF_IOC_PERIOD, _PERF_IOC_SET_BPF = 0x40082404, 0x40042408


class BpfError(OSError):
    """A bpf(2) or perf_event_open(2) call failed; the text names the call and the object."""


def _syscall(number: int, *args: int) -> int:
    result: int = _libc.syscall(ctypes.c_long(number), *(ctypes.c_long(a) for a in args))
    return result


def _bpf(command: int, attr: bytearray, what: str) -> int:
    buffer = (ctypes.c_char * len(attr)).from_buffer(attr)
    result = _syscall(_SYS_BPF, command, ctypes.addressof(buffer), len(attr))
    if result < 0:
        err = ctypes.get_errno()
        raise BpfError(err, f"{what}: {os.strerror(err)}")
    return result


@dataclass(frozen=True, slots=True)
class Map:
    """A map that this process created. Values are numpy records; closing the descriptor frees it."""

    name: str
    fd: int
    kind: int
    key_size: int
    value_size: int
    max_entries: int

    @classmethod
    def create(cls, name: str, kind: int, key_size: int, value_size: int, max_entries: int, flags: int) -> Map:
        """BPF_MAP_CREATE."""
        attr = bytearray(72)
        struct.pack_into("<IIIII", attr, 0, kind, key_size, value_size, max_entries, flags)
        struct.pack_into("16s", attr, 28, name.encode()[: _OBJ_NAME_LEN - 1])
        fd = _bpf(_MAP_CREATE, attr, f"creating map {name}")
        return cls(name, fd, kind, key_size, value_size, max_entries)

    def _elem(self, command: int, key: bytes, value: int, flags: int = 0) -> bool:
        key_buffer = ctypes.create_string_buffer(key, len(key))
        attr = bytearray(32)
        struct.pack_into("<IxxxxQQQ", attr, 0, self.fd, ctypes.addressof(key_buffer), value, flags)
        try:
            _bpf(command, attr, f"map {self.name}")
        except BpfError as err:
            if err.errno in (errno.ENOENT, errno.EEXIST):
                return False
            raise
        return True

    def lookup(self, key: bytes) -> bytearray | None:
        """The value, or None if there is no such key. For per-CPU maps the values of all possible CPUs in a row."""
        size = self.value_size
        if self.kind == MAP_PERCPU_ARRAY:
            size = (size + 7) // 8 * 8 * possible_cpus()
        value = bytearray(size)
        address = ctypes.addressof((ctypes.c_char * size).from_buffer(value))
        return value if self._elem(_MAP_LOOKUP, key, address) else None

    def update(self, key: bytes, value: bytes, flags: int = BPF_ANY) -> bool:
        """False when BPF_NOEXIST was asked for and the key is there. Raises BpfError (E2BIG) when the map is full."""
        buffer = ctypes.create_string_buffer(value, len(value))
        return self._elem(_MAP_UPDATE, key, ctypes.addressof(buffer), flags)

    def delete(self, key: bytes) -> bool:
        """False if there was no such key."""
        return self._elem(_MAP_DELETE, key, 0)

    def freeze(self) -> None:
        """Its values are constants from now on: a program may take one as a format."""
        attr = bytearray(4)
        struct.pack_into("<I", attr, 0, self.fd)
        _bpf(_MAP_FREEZE, attr, f"freezing map {self.name}")

    def dump(self, dtype: np.dtype[np.void]) -> tuple[NDArray[np.uint32], NDArray[np.void]]:
        """All (u32 key, value) pairs of a hash, by BPF_MAP_LOOKUP_BATCH: keys (n,), values (n,) of `dtype`."""
        room = self.max_entries + _BATCH_SLACK
        keys = np.empty(room, np.uint32)
        values = np.empty(room, dtype)
        cursor = bytearray(8)
        at = ctypes.addressof((ctypes.c_char * 8).from_buffer(cursor))
        done, first = 0, True
        while done < room:
            attr = bytearray(56)
            struct.pack_into("<QQQQIIQQ", attr, 0, 0 if first else at, at, keys.ctypes.data + 4 * done,
                             values.ctypes.data + dtype.itemsize * done, room - done, self.fd, 0, 0)
            try:
                _bpf(_MAP_LOOKUP_BATCH, attr, f"reading map {self.name}")
            except BpfError as err:
                if err.errno != errno.ENOENT:   # ENOENT: the end was reached
                    raise
                done += struct.unpack_from("<I", attr, 32)[0]
                break
            done += struct.unpack_from("<I", attr, 32)[0]
            first = False
        return keys[:done], values[:done]

    def close(self) -> None:
        os.close(self.fd)


def load_program(
    name: str, kind: int, code: bytes, type_id: int = 0, log_level: int = 0, *, flags: int = 0
) -> int:
    """BPF_PROG_LOAD, licence GPL. Returns the descriptor.

    `type_id`, for PROG_TRACING: the kernel type (BTF id) of the tracepoint that it will hang on.

    Raises BpfError with the end of the verifier's log when the kernel refuses the program.
    """
    instructions = ctypes.create_string_buffer(code, len(code))
    licence = ctypes.create_string_buffer(b"GPL")
    log = ctypes.create_string_buffer(1 << 20 if log_level else 1)
    attr = bytearray(144)
    struct.pack_into("<IIQQIIQ", attr, 0, kind, len(code) // 8, ctypes.addressof(instructions),
                     ctypes.addressof(licence), log_level, len(log) if log_level else 0,
                     ctypes.addressof(log) if log_level else 0)
    struct.pack_into("<I", attr, 44, flags)
    struct.pack_into("16s", attr, 48, name.encode()[: _OBJ_NAME_LEN - 1])
    if type_id:
        struct.pack_into("<I", attr, 68, _TRACE_RAW_TP)
        struct.pack_into("<I", attr, 108, type_id)
    try:
        return _bpf(_PROG_LOAD, attr, f"loading program {name}")
    except BpfError as err:
        if not log_level and err.errno in (errno.EINVAL, errno.EACCES, errno.E2BIG):
            return load_program(name, kind, code, type_id, log_level=1, flags=flags)
        if log_level:
            tail = log.value.decode("utf-8", "replace")[-2000:]
            raise BpfError(err.errno, f"{err.strerror}\n{tail}") from err
        raise


def run_program(fd: int, context: bytes) -> None:
    """Runs a program of kind PROG_SYSCALL once, here and now. Raises BpfError."""
    buffer = ctypes.create_string_buffer(context, len(context))
    attr = bytearray(80)
    struct.pack_into("<I", attr, 0, fd)
    struct.pack_into("<IIQ", attr, 40, len(context), 0, ctypes.addressof(buffer))
    _bpf(_PROG_TEST_RUN, attr, "running a program")


def attach_raw_tracepoint(tracepoint: str, prog_fd: int, typed: bool = False) -> int:
    """BPF_RAW_TRACEPOINT_OPEN; closing the returned descriptor detaches. A typed program knows its tracepoint."""
    name = ctypes.create_string_buffer(tracepoint.encode())
    attr = bytearray(16)
    struct.pack_into("<QI", attr, 0, 0 if typed else ctypes.addressof(name), prog_fd)
    return _bpf(_RAW_TRACEPOINT_OPEN, attr, f"attaching to {tracepoint}")


def open_cpu_clock(cpu: int, period_ns: int, prog_fd: int) -> int:
    """A software cpu-clock event on one CPU, all processes, with a program on each tick. Opened disabled."""
    attr = bytearray(136)
    #             type size config period                     flags: disabled
    struct.pack_into("<IIQQQQQ", attr, 0, 1, len(attr), 0, period_ns, 0, 0, 1)
    buffer = (ctypes.c_char * len(attr)).from_buffer(attr)
    fd = perf_event_open(ctypes.addressof(buffer), -1, cpu)
    try:
        _ioctl(fd, _PERF_IOC_SET_BPF, prog_fd, "attaching the sampler")
    except BpfError:
        os.close(fd)
        raise
    return fd


def perf_event_open(attr: int, pid: int, cpu: int) -> int:
    """perf_event_open(2) with a pointer to the attributes; the descriptor closes on exec."""
    fd = _syscall(_SYS_PERF_EVENT_OPEN, attr, pid, cpu, -1, 8)  # PERF_FLAG_FD_CLOEXEC
    if fd < 0:
        err = ctypes.get_errno()
        raise BpfError(err, f"opening a timer (pid {pid}, CPU {cpu}): {os.strerror(err)}")
    return fd


def _ioctl(fd: int, request: int, argument: int, what: str) -> None:
    if _libc.ioctl(fd, ctypes.c_ulong(request), ctypes.c_long(argument)) < 0:
        err = ctypes.get_errno()
        raise BpfError(err, f"{what}: {os.strerror(err)}")


def enable_event(fd: int) -> None:
    """Starts a perf event."""
    _ioctl(fd, _PERF_IOC_ENABLE, 0, "starting a timer")


def disable_event(fd: int) -> None:
    """Stops a perf event."""
    _ioctl(fd, _PERF_IOC_DISABLE, 0, "stopping a timer")


def set_period(fd: int, period_ns: int) -> None:
    """Changes a perf event's period from its next tick on."""
    value = ctypes.c_uint64(period_ns)
    _ioctl(fd, _PERF_IOC_PERIOD, ctypes.addressof(value), "setting a timer's period")


def possible_cpus() -> int:
    """How many values a per-CPU map has (/sys/devices/system/cpu/possible)."""
    global _possible
    if not _possible:
        with open("/sys/devices/system/cpu/possible") as f:  # noqa: PTH123
            _possible = int(f.read().strip().split("-")[-1]) + 1
    return _possible


_possible = 0
