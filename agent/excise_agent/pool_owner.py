"""Which library a pool thread belongs to: whose code stands at the bottom of its stack.

A thread that only waits is never sampled, and its leaf is the C library's. But its stack still holds the return
addresses of who started it; the outermost one that is neither the C library nor the loader names the pool.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np

from excise_agent.cpython.memory import Memory
from excise_agent.maps import Maps, read_maps

_STACK_BYTES = 64 << 10  # from the stack pointer up; pool threads wait in shallow stacks
_CHUNK = 4096
_MOST_THREADS = 2048  # 50 us each
_NOT_OWNERS = ("libc.so", "libc-", "ld-linux", "libpthread", "libstdc++", "libm.so")


class PoolOwners:
    """Remembers the maps of a process while its threads are asked for: use one for one look."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._spaces: dict[int, tuple[Memory, Maps] | None] = {}
        self._asked = 0

    def owner(self, pid: int, tid: int) -> str:
        """File name of the library; "" unknown. Reads the stack of a blocked thread, nothing is stopped."""
        self._asked += 1
        if self._asked > _MOST_THREADS:
            return ""
        try:
            words = (self._proc / str(pid) / "task" / str(tid) / "syscall").read_text().split()
            pointer = int(words[-2], 16)
        except (OSError, ValueError, IndexError):
            return ""  # gone, or on a CPU just now
        space = self._space(pid)
        if space is None:
            return ""
        memory, maps = space
        stack = b""
        while len(stack) < _STACK_BYTES:
            at = pointer + len(stack)
            part = memory.read(at, _CHUNK - at % _CHUNK)
            if part is None:
                break
            stack += part
        owner = ""
        for index in maps.owners(np.frombuffer(stack[: len(stack) // 8 * 8], np.uint64)).tolist():
            if index >= 0 and maps.mappings[index].is_file:
                name = PurePosixPath(maps.mappings[index].label).name
                if not name.startswith(_NOT_OWNERS):
                    owner = name
        return owner

    def close(self) -> None:
        for space in self._spaces.values():
            if space is not None:
                space[0].close()
        self._spaces.clear()
        self._asked = 0

    def _space(self, pid: int) -> tuple[Memory, Maps] | None:
        if pid not in self._spaces:
            maps = read_maps(pid, self._proc)
            try:
                self._spaces[pid] = (Memory(pid, str(self._proc)), maps) if maps is not None else None
            except OSError:
                self._spaces[pid] = None
        return self._spaces[pid]
