"""Reads another process's memory through /proc/PID/mem. The pointers come from the target: none is trusted.
"""

from __future__ import annotations

import os
import struct
from types import TracebackType
from typing import Final, Self

MAX_READ_BYTES: Final = 4 << 20
_LOWEST: Final = 0x1000  # vm.mmap_min_addr may be lower; nothing that we follow is
_HIGHEST: Final = 1 << 47  # end of x86-64 user space (4-level page tables; glibc maps no higher unasked)
_U32: Final = struct.Struct("<I")
_U64: Final = struct.Struct("<Q")


class Memory:
    """The memory of one process image. After an exec every read answers None: open another.

    A read can block when the target maps files of a filesystem that it serves itself (FUSE) or handles its
    own page faults (userfaultfd); it stays killable. Not for use by two threads at once with `close`.
    """

    def __init__(self, pid: int, root: str = "/proc") -> None:
        """Raises OSError: no such process, or no right to read its memory (CAP_SYS_PTRACE)."""
        self._fd = os.open(f"{root}/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)

    def read(self, addr: int, n: int) -> bytes | None:
        """Exactly n bytes from addr, or None."""
        if n <= 0 or n > MAX_READ_BYTES or addr < _LOWEST or addr + n > _HIGHEST or self._fd < 0:
            return None
        try:
            data = os.pread(self._fd, n, addr)
        except OSError:  # EIO: not mapped; ESRCH and EPERM: the process went or changed its rights
            return None
        return data if len(data) == n else None

    def read_u64(self, addr: int) -> int | None:
        data = self.read(addr, 8)
        return None if data is None else int(_U64.unpack(data)[0])

    def read_u32(self, addr: int) -> int | None:
        data = self.read(addr, 4)
        return None if data is None else int(_U32.unpack(data)[0])

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()
