"""What the numbers of a stream stand for, and facts about stacks that the ledger asks for, looked up once each."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Final

import numpy as np
from numpy.typing import NDArray

from excise.batch import Definitions
from excise.frames import Frame, Process, Stack, Thread

_NOT_A_LIBRARY: Final = ("libc.so", "libc-", "ld-linux", "libpthread", "[vdso]", "libm.so", "libstdc++")
_LOOPS: Final = ("_PyEval_EvalFrame", "PyEval_EvalCode", "_PyEval_Vector", "_PyFunction_Vectorcall")

STACK_FACTS: Final = np.dtype([
    ("python", "?"),     # has a Python frame
    ("loop", "?"),       # its innermost native frame is the interpreter's own loop
    ("library", "<i4"),  # of its innermost native frame with a file: index into `libraries`; -1: none, or the C library
    ("chain", "<i4"),    # its Python frames, those of one chain have one number; -1: none
])


class Known:
    """Definitions so far. Ids of a stream count up from its start; stack 0 is the empty one."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.stacks: list[Stack] = [()]
        self.processes: dict[int, Process] = {}
        self.threads: dict[int, Thread] = {}
        self.libraries: list[str] = []
        self._library_of: dict[str, int] = {}
        self._chain_of: dict[Stack, int] = {}
        self._facts = np.zeros(256, STACK_FACTS)
        self._looked = 0

    def define(self, item: Definitions) -> None:
        self.frames.extend(item.frames)
        self.stacks.extend(item.stacks)
        for process in item.processes:
            self.processes[process.pid] = process
        for thread in item.threads:
            known = self.threads.get(thread.tid)
            if known is not None and known.pid == thread.pid and known.carrier and not thread.carrier:
                thread = Thread(thread.tid, thread.pid, thread.name, carrier=True)
            self.threads[thread.tid] = thread

    def stack(self, stack: int) -> tuple[Frame, ...]:
        """A stack's frames, leaf first."""
        return tuple(self.frames[f] for f in self.stacks[stack])

    def facts(self) -> NDArray[np.void]:
        """STACK_FACTS by stack id. Each stack is looked at once."""
        n = len(self.stacks)
        if n > len(self._facts):
            more = np.zeros(max(n - len(self._facts), len(self._facts)), STACK_FACTS)
            self._facts = np.concatenate((self._facts, more))
        for i in range(self._looked, n):
            self._facts[i] = self._look(self.stacks[i])
        self._looked = n
        return self._facts[:n]

    @property
    def chains(self) -> int:
        """How many Python chains there are."""
        return len(self._chain_of)

    def _look(self, stack: Stack) -> tuple[bool, bool, int, int]:
        chain = tuple(f for f in stack if self.frames[f].kind == "python")
        native = [f for f in (self.frames[f] for f in stack) if f.kind == "native"]
        loop = bool(native) and native[0].name.startswith(_LOOPS)
        file = next((f.file for f in native if f.file), "")
        library = -1
        name = PurePosixPath(file).name
        if name and not name.startswith(_NOT_A_LIBRARY):
            library = self._library_of.setdefault(name, len(self.libraries))
            if library == len(self.libraries):
                self.libraries.append(name)
        number = self._chain_of.setdefault(chain, len(self._chain_of)) if chain else -1
        return bool(chain), loop, library, number
