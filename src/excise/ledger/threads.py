"""Whose time it is: threads by index, which of them are carriers, whose library they run."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from excise.ledger.definitions import Known
from excise.names import KERNEL_STATE_ID

_POOL_LIBRARIES = ("libgomp", "libiomp5", "libomp", "libonnxruntime", "libmkl", "libnccl", "libtbb")
_RUNNING = KERNEL_STATE_ID["running"]

Key = tuple[int, int]  # pid, tid


def strip_digits(name: str) -> str:
    """A thread's name without its number: "worker-3" and "worker-12" are one stratum."""
    return "".join(c for c in name if not c.isdigit())


@dataclass(slots=True)
class Memory:
    """What earlier windows knew of threads: who ran Python, whose library each ran."""

    ran_python: set[Key] = field(default_factory=set)
    library: dict[Key, str] = field(default_factory=dict)

    def keep(self, keys: list[Key]) -> None:
        """Forgets all other threads."""
        living = set(keys)
        self.ran_python &= living
        self.library = {key: name for key, name in self.library.items() if key in living}


@dataclass(frozen=True, slots=True)
class Threads:
    """By index: who they are, their names, whether they carry, the library they run ("" unknown)."""

    keys: list[Key]
    names: list[str]
    carrier: NDArray[np.bool_]
    library: list[str]

    def strata(self) -> list[tuple[int, str]]:
        """(pid, name without digits), by index."""
        return [(pid, strip_digits(name)) for (pid, _), name in zip(self.keys, self.names, strict=True)]


def who(
    known: Known, memory: Memory, totals: NDArray[np.void], slices: NDArray[np.void], of_row: NDArray[np.int64]
) -> Threads:
    """The threads of totals (T,), judged by rows (n,) of threads of_row (n,), and by what is remembered of them."""
    keys: list[Key] = list(zip(totals["pid"].tolist(), totals["tid"].tolist(), strict=True))
    facts = known.facts()
    ran_python = np.zeros(len(keys), bool)
    ran_python[of_row[facts["python"][slices["stack"]]]] = True
    memory.ran_python |= {keys[i] for i in np.flatnonzero(ran_python).tolist()}
    memory.library |= {keys[i]: name for i, name in _libraries(known, slices, of_row).items()}
    names, carrier, library = [], [], []
    for key in keys:
        pid, tid = key
        thread = known.threads.get(tid)
        if thread is not None and thread.pid != pid:
            thread = None
        process = known.processes.get(pid)
        names.append(thread.name if thread else "")
        library.append(memory.library.get(key, ""))
        if process is not None and process.python is None and not process.note:
            carrier.append(not library[-1].startswith(_POOL_LIBRARIES))
        else:
            carrier.append(key in memory.ran_python or bool(thread and thread.carrier))
    return Threads(keys, names, np.array(carrier, bool), library)


def _libraries(known: Known, slices: NDArray[np.void], of_row: NDArray[np.int64]) -> dict[int, str]:
    """The library that a thread runs most (by samples, else by waits), the C library and the loader aside."""
    of_stack = known.facts()["library"][slices["stack"]]
    at = np.flatnonzero(of_stack >= 0)
    if not len(at):
        return {}
    n = len(known.libraries)
    codes, which = np.unique(of_row[at] * n + of_stack[at], return_inverse=True)
    weight = np.where(slices["state"][at] == _RUNNING, 1e3 * slices["count"][at], 1e-3)
    heaviest = np.argsort(np.bincount(which, weights=weight), kind="stable")
    return {code // n: known.libraries[code % n] for code in codes[heaviest].tolist()}
