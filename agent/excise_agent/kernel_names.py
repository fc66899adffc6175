"""Names kernel addresses where /proc/kallsyms hides them: a BPF program prints each with bpf_snprintf("%ps").

kallsyms shows addresses to CAP_SYSLOG only (to everyone where kptr_restrict is 0 and perf_event_paranoid at most 1).
The agent's user has no CAP_SYSLOG. Here the kernel names the addresses that the agent's own stacks have brought, with
the rights that loading the probes needs, and gives away no other. Kernels from 5.14 on.
"""

from __future__ import annotations

import os
import re
import struct
from typing import Final

from excise_agent import bpf

NAME_BYTES: Final = 640  # KSYM_NAME_LEN is 512, a module's name has at most 55 and comes with " []"
_FORMAT: Final = b"%ps\0"
_BPF_FUNC_SNPRINTF: Final = 165
_SLEEPABLE: Final = 1 << 4  # BPF_F_SLEEPABLE: what programs of this type must be
_READ_ONLY: Final = 1 << 7  # BPF_F_RDONLY_PROG: a format must be constant
_KEY: Final = struct.pack("<I", 0)
_SHAPE: Final = re.compile(r"[^\s\[\]]+( \[[^\s\[\]]+\])?")


def _instruction(code: int, dst: int = 0, src: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return struct.pack("<BBhi", code, src << 4 | dst, offset, value)


def _map_value(register: int, fd: int) -> bytes:
    """A pointer to the only value of an array."""
    return _instruction(0x18, register, 2, 0, fd) + _instruction(0)


class KernelNames:
    """Prints addresses, one bpf(2) call each (2 us) and one to read the name. Not thread-safe."""

    def __init__(self) -> None:
        """Raises bpf.BpfError: the kernel does not let us, or is too old."""
        self._fds: list[int] = []
        try:
            text = self._array("excise_format", len(_FORMAT), _READ_ONLY)
            text.update(_KEY, _FORMAT)
            text.freeze()
            self._name = self._array("excise_ksym", NAME_BYTES, 0)
            code = b"".join((
                _instruction(0x79, 6, 1),                  # r6 = ctx->address
                _instruction(0x7B, 10, 6, -8),             # stack[-8] = r6: the arguments of the format
                _map_value(1, self._name.fd),
                _instruction(0xB7, 2, value=NAME_BYTES),
                _map_value(3, text.fd),
                _instruction(0xBF, 4, 10),
                _instruction(0x07, 4, value=-8),
                _instruction(0xB7, 5, value=8),
                _instruction(0x85, value=_BPF_FUNC_SNPRINTF),
                _instruction(0xB7, 0),
                _instruction(0x95),
            ))
            self._program = bpf.load_program("excise_ksym", bpf.PROG_SYSCALL, code, flags=_SLEEPABLE)
            self._fds.append(self._program)
        except OSError:
            self.close()
            raise

    def name(self, addr: int) -> str:
        """ "function" or "function [module]"; "": it is in none."""
        try:
            bpf.run_program(self._program, struct.pack("<Q", addr))
            raw = self._name.lookup(_KEY) or b""
        except OSError:
            return ""
        text = bytes(raw).partition(b"\0")[0].decode("utf-8", "replace")
        # what is no symbol is printed as a number
        return text if _SHAPE.fullmatch(text) and not text.startswith("0x") else ""

    def close(self) -> None:
        """May be called twice."""
        while self._fds:
            os.close(self._fds.pop())

    def _array(self, name: str, size: int, flags: int) -> bpf.Map:
        made = bpf.Map.create(name, bpf.MAP_ARRAY, 4, size, 1, flags)
        self._fds.append(made.fd)
        return made
