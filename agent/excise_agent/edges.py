"""The kernel's totals at a window's edge, and the waits that are open there.

A total is the sum of closed intervals plus the part of the open one before the edge. A record arrives when a wait
ends and carries all of it; so at an edge the open part goes to the earlier window as a row of its own and is taken
off the later one: sums over windows are exact however time is cut.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from excise.names import KERNEL_STATE_ID
from excise.records import REC_WAIT, THREAD_DEAD, THREAD_DTYPE, THREAD_SNAPSHOT, WEIGHT_ONE
from excise_agent.bpf import Map

RUNNING, RUNNABLE = KERNEL_STATE_ID["running"], KERNEL_STATE_ID["runnable"]

STALE_WAKING_NS = 50_000_000
"""A waking seen before the switch-out belongs to this wait only if the thread comes back soon; else it was spent on
a sleep that never happened."""


@dataclass(frozen=True, slots=True)
class Edge:
    """At `now_ns`: by thread (n,), its identity, flags and total per state (n, KERNEL_STATES) up to now.

    `host_tids` (n,): the kernel's own numbers, 0 unknown.
    `open_runnable_ns` (n,): the part of runnable that is still open: the scheduler counts a wait when it ends.
    `unsure_ns` (n,): the part of running that the snapshot took for running and that may turn out to have been runnable
    (THREAD_WAS_RUNNABLE). `stale` (n,): not seen since the switch hooks were put on, so what it does now is not known;
    `closed_ns` (n, KERNEL_STATES): without what is open. `open_keys` (m, 6) and `open_sums`
    (m, 3) are the open waits as folded rows (count 0), as far as their stack was walked.
    """

    now_ns: int
    tids: NDArray[np.uint32]
    pids: NDArray[np.uint32]
    flags: NDArray[np.uint8]
    state_ns: NDArray[np.int64]
    unsure_ns: NDArray[np.int64]
    open_runnable_ns: NDArray[np.int64]
    host_tids: NDArray[np.uint32]
    open_keys: NDArray[np.uint64]
    open_sums: NDArray[np.int64]
    stale: NDArray[np.bool_]
    closed_ns: NDArray[np.int64]
    values: NDArray[np.void]  # the map's, THREAD_DTYPE (n,)

    def keys(self) -> list[tuple[int, int]]:
        """(pid, tid) by thread."""
        return list(zip(self.pids.tolist(), self.tids.tolist(), strict=True))

    @property
    def states(self) -> NDArray[np.uint8]:
        """KERNEL_STATES index by thread, as last seen."""
        states: NDArray[np.uint8] = self.values["state"]
        return states


def read_threads(threads: Map) -> tuple[NDArray[np.uint32], NDArray[np.void]]:
    """All entries; values that an update overlapped are read again (they settle within microseconds)."""
    tids, values = threads.dump(THREAD_DTYPE)
    for i in np.flatnonzero(values["done"] != values["started"]):
        for _ in range(8):
            raw = threads.lookup(struct.pack("<I", int(tids[i])))
            if raw is None:
                break
            values[i] = np.frombuffer(raw, THREAD_DTYPE, 1)[0]
            if values[i]["done"] == values[i]["started"]:
                break
    return tids, values


def take_edge(threads: Map, now_ns: int, phase: int = 0) -> Edge:
    """The totals as of `now_ns`, CLOCK_MONOTONIC; call it at that moment. `phase`: of the switch hooks."""
    tids, v = read_threads(threads)
    return edge_of(tids, v, now_ns, phase)


def edge_of(tids: NDArray[np.uint32], v: NDArray[np.void], now_ns: int, phase: int = 0) -> Edge:
    """See `take_edge`; pure."""
    state = np.minimum(v["state"].astype(np.int64), v["state_ns"].shape[1] - 1)
    since = v["since_ns"].astype(np.int64)
    stale = v["phase"] != phase
    alive = ((v["flags"] & THREAD_DEAD) == 0) & ~stale
    elapsed = np.where(alive, np.maximum(now_ns - since, 0), 0)
    woken_at = np.maximum(v["wake_ns"].astype(np.int64), since)
    blocked = (state != RUNNING) & (state != RUNNABLE)
    woken = blocked & (v["wake_ns"] > v["in_ns"]) & ~((v["wake_ns"] <= v["since_ns"]) & (elapsed > STALE_WAKING_NS))
    waiting_for_cpu = np.where(woken, np.clip(now_ns - woken_at, 0, elapsed), 0)
    in_state = elapsed - waiting_for_cpu
    closed_ns = v["state_ns"].astype(np.int64)
    state_ns = closed_ns.copy()
    rows = np.arange(len(v))
    state_ns[rows, state] += in_state
    state_ns[rows, RUNNABLE] += waiting_for_cpu
    open_runnable_ns = np.where(alive & (state == RUNNABLE), elapsed, waiting_for_cpu)
    unsure_ns = np.where((state == RUNNING) & (v["in_ns"] == 0) & ((v["flags"] & THREAD_SNAPSHOT) != 0), elapsed, 0)
    keep = alive & (state != RUNNING) & (elapsed > 0) & (v["weight"] > 0)
    sums = np.zeros((int(keep.sum()), 3), np.int64)
    sums[:, 1] = in_state[keep] * v["weight"][keep] // WEIGHT_ONE
    sums[:, 2] = waiting_for_cpu[keep] * v["weight"][keep] // WEIGHT_ONE
    keys = wait_keys(tids[keep], v[keep])
    return Edge(
        now_ns,
        tids,
        v["pid"].copy(),
        v["flags"].copy(),
        state_ns,
        unsure_ns,
        open_runnable_ns,
        v["host_tid"].copy(),
        keys,
        sums,
        stale,
        closed_ns,
        v,
    )


def wait_keys(tids: NDArray[np.uint32], v: NDArray[np.void]) -> NDArray[np.uint64]:
    """The waits that threads are in, by the kernel's map (THREAD_DTYPE (n,)), as keys of folded rows (n, 6)."""
    keys = np.zeros((len(v), 6), np.uint64)
    keys[:, 0] = (
        np.uint64(REC_WAIT)
        | np.minimum(v["state"], v["state_ns"].shape[1] - 1).astype(np.uint64) << np.uint64(8)
        | (v["wait_flags"].astype(np.uint64) & np.uint64(0xFF)) << np.uint64(16)
        | v["fd_class"].astype(np.uint64) << np.uint64(24)
        | tids.astype(np.uint64) << np.uint64(32)
    )
    keys[:, 1] = v["pid"].astype(np.uint64)
    keys[:, 2] = (
        v["syscall"].view(np.uint16).astype(np.uint64)
        | v["port"].astype(np.uint64) << np.uint64(16)
        | v["fd"].astype(np.uint64) << np.uint64(32)
    )
    keys[:, 3] = v["stack"]
    keys[:, 5] = v["ip"]
    return keys


def open_row(pid: int, tid: int, state: int, ns: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """A wait without stack or call, as a folded row: keys (1, 6), sums (1, 3)."""
    keys = np.zeros((1, 6), np.uint64)
    keys[0, 0] = REC_WAIT | state << 8 | tid << 32
    keys[0, 1] = pid
    keys[0, 2] = 0xFFFF | 255 << 32  # no system call, no descriptor
    sums = np.zeros((1, 3), np.int64)
    sums[0, 1] = ns
    return keys, sums
