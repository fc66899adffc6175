"""Whose time it is: threads by index, which of them are carriers, whose library the others run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from excise.names import KERNEL_STATE_ID
from excise.session import Session

_NOT_A_LIBRARY = ("libc.so", "libc-", "ld-linux", "libpthread", "[vdso]", "libm.so", "libstdc++")
_POOL_LIBRARIES = ("libgomp", "libiomp5", "libomp", "libonnxruntime", "libmkl", "libnccl", "libtbb")


def strip_digits(name: str) -> str:
    """A thread's name without its number: "worker-3" and "worker-12" are one stratum."""
    return "".join(c for c in name if not c.isdigit())


@dataclass(slots=True)
class Threads:
    """Who the rows belong to, by index."""

    keys: list[tuple[int, int]]
    names: list[str]
    carrier: NDArray[np.bool_]
    index: dict[tuple[int, int], int] = field(default_factory=dict)


def who(session: Session, slices: NDArray[np.void], totals: NDArray[np.void]) -> Threads:
    keys = [(int(r["pid"]), int(r["tid"])) for r in totals]
    index = {k: i for i, k in enumerate(keys)}
    python = {i for i, stack in enumerate(session.stacks) if any(session.frames[f].kind == "python" for f in stack)}
    ran_python = {(int(r["pid"]), int(r["tid"])) for r in slices if int(r["stack"]) in python}
    leaf = libraries(session, slices)
    names, carrier = [], []
    for pid, tid in keys:
        thread = session.threads.get(tid)
        process = session.processes.get(pid)
        names.append(thread.name if thread and thread.pid == pid else "")
        if process is not None and process.python is None and not process.note:
            carrier.append(not leaf.get((pid, tid), "").startswith(_POOL_LIBRARIES))
        else:
            carrier.append((pid, tid) in ran_python or bool(thread and thread.pid == pid and thread.carrier))
    return Threads(keys, names, np.array(carrier, bool), index)


def libraries(session: Session, slices: NDArray[np.void]) -> dict[tuple[int, int], str]:
    """The library that each thread runs most (by samples, else by waits), the C library and the loader aside."""
    weights: dict[tuple[int, int], dict[str, float]] = {}
    for row in slices:
        for frame_id in session.stacks[int(row["stack"])]:
            frame = session.frames[frame_id]
            if frame.kind == "native" and frame.file:
                name = PurePosixPath(frame.file).name
                if not name.startswith(_NOT_A_LIBRARY):
                    per = weights.setdefault((int(row["pid"]), int(row["tid"])), {})
                    weight = 1e3 * float(row["count"]) if int(row["state"]) == KERNEL_STATE_ID["running"] else 1e-3
                    per[name] = per.get(name, 0.0) + weight
                break
    return {key: max(per, key=lambda n: per[n]) for key, per in weights.items()}
