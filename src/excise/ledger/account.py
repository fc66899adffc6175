"""A span's sums, accounted for: every nanosecond of every thread in a class, with its error. One frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from excise.batch import SLICE_PHASE_SHIFT
from excise.frames import Thread
from excise.ledger.accumulate import Sums
from excise.ledger.attribute import Attributor
from excise.ledger.cell_errors import wait_variances
from excise.ledger.classes import CLASSES
from excise.ledger.definitions import Known
from excise.ledger.estimate import Floats, Ints, RunningSplit, settle, split_running, split_stolen
from excise.ledger.phases import phase_errors
from excise.ledger.stacks import Whose, stack_cells
from excise.ledger.table import SumTable
from excise.ledger.tally import Tally, thread_words
from excise.ledger.threads import Memory, Threads, strip_digits, who
from excise.ledger.waits import Thinned, split_waits, total_errors
from excise.names import KERNEL_STATE_ID
from excise.stages import ThreadContext

RUNNING, STOLEN = KERNEL_STATE_ID["running"], KERNEL_STATE_ID["stolen"]

LENGTH_COUNT_DTYPE: Final = np.dtype([
    ("pid", "<u4"),
    ("class_", "u1"),   # of CLASSES
    ("state", "u1"),    # of KERNEL_STATES
    ("bucket", "<i2"),  # see LENGTH_DTYPE
    ("weight", "<i8"),  # waits of that length, in 1/WEIGHT_ONE
])


@dataclass(frozen=True)
class Accounted:
    """T threads, S kernel states, C classes, M modes (0 user, 1 kernel). Times in ns.

    totals: TOTALS_DTYPE (T,), as they came; state_ns (T, S): the same, none below zero; off_cpu (T, S, C): time off the
    CPU, and stolen; on_cpu: running time; samples (T, C, M); cells: CELL_DTYPE, heaviest first, `whose` they are;
    lengths: LENGTH_COUNT_DTYPE, of the carriers' waits; covariance (C, C) ns^2 of the carriers' class sums, of all
    sources; sampled: carriers were, or did not run; thinned: records were left out on purpose.
    """

    threads: Threads
    totals: NDArray[np.void]
    state_ns: Ints
    off_cpu: Floats
    on_cpu: RunningSplit
    samples: Ints
    cells: NDArray[np.void]
    whose: tuple[Whose, ...]
    lengths: NDArray[np.void]
    wait_variances: Floats  # (T, S, C) ns^2, of off_cpu cell by cell
    covariance: Floats
    sampled: bool
    thinned: bool
    lost: dict[str, int]
    host: dict[str, Any]
    costs: dict[str, Any]

    def helper_library(self, i: int, threads: Mapping[int, Thread]) -> str:
        """Whose pool the thread with this index belongs to; `threads` by tid, as they were defined."""
        pid, tid = self.threads.keys[i]
        known = threads.get(tid)
        library = self.threads.library[i] or (known.library if known is not None and known.pid == pid else "")
        return library or f"unknown ({strip_digits(self.threads.names[i]) or 'unnamed'})"

    @cached_property
    def carrier_ns(self) -> Floats:
        """(C,): the carriers' time by class, over all states."""
        carrier = self.threads.carrier
        out: Floats = self.off_cpu[carrier].sum(axis=(0, 1)) + self.on_cpu.ns[carrier].sum(axis=(0, 2))
        return out

    def variance(self, factors: Floats) -> float:
        """ns^2, of a sum of the carriers' time over classes, each times its factor (C,)."""
        return max(float(factors @ self.covariance @ factors), 0.0)

    def ai_tax(self) -> tuple[float | None, float | None]:
        """1 - compute / (all - idle - handoff), and its standard error (delta method). None: nothing to divide by;
        unknown."""
        compute, parked = classes_of("compute"), classes_of("idle", "handoff")
        busy = float(self.carrier_ns @ (1 - parked))
        if busy < 0.5:
            return None, None
        ratio = float(self.carrier_ns @ compute) / busy
        if not self.sampled:
            return 1 - ratio, None
        return 1 - ratio, float(np.sqrt(self.variance(compute - ratio * (1 - parked)))) / busy


def classes_of(*stages: str) -> Floats:
    """(C,): 1 for the classes of these stages, else 0."""
    return np.array([float(stage in stages) for stage, _ in CLASSES])


def account(tally: Tally, known: Known, attributor: Attributor, memory: Memory, carried: Ints | None = None
            ) -> Accounted:
    """Accounts for all that is in `tally`. `memory`: what earlier windows knew of threads; it is brought up to date.

    carried (T, S): what earlier windows left over when they brought sums below zero up to it.
    """
    totals = tally.totals_array()
    slices, lengths = tally.slices(), tally.lengths()
    of_row = tally.totals.find(thread_words(slices))
    lengths = lengths[of_row[lengths["row"]] >= 0]
    ours = of_row >= 0
    lengths["row"] = (np.cumsum(ours) - 1)[lengths["row"]]
    slices, of_row = slices[ours], of_row[ours]
    threads = who(known, memory, totals, slices, of_row)

    waits, runs = _classes(slices, of_row, threads, known, attributor, tally.host.get("listen_ports"))
    sums = Sums(len(totals))
    sums.add(slices, of_row, waits, runs)

    state_ns = settle(totals["state_ns"] if carried is None else totals["state_ns"] + carried)
    strata, carrier = threads.strata(), threads.carrier
    thinned = bool(slices["thinned"].any())
    evidence = Thinned(sums.counts, sums.variances, strata, carrier) if thinned else None
    off = split_waits(state_ns, sums.records, bool(tally.lost.get("ring_full")), evidence)
    on_cpu = split_running(state_ns[:, RUNNING], state_ns[:, STOLEN], sums.samples, strata, carrier, sums.weights)
    running = on_cpu.ns.sum(axis=2)
    off.ns[:, STOLEN] = split_stolen(state_ns[:, STOLEN], running)
    covariance = on_cpu.covariance + off.covariance
    if (slices["flags"] >> SLICE_PHASE_SHIFT).any():
        covariance = covariance + phase_errors(slices, of_row, waits, runs, carrier, state_ns)
    if totals["se_ns"].any():
        everything = off.ns.copy()
        everything[:, RUNNING] = running
        covariance = covariance + total_errors(totals["se_ns"], everything, carrier)
    cells, whose = stack_cells(slices, of_row, waits, runs, threads, off.ns, on_cpu, off.scale)
    return Accounted(
        threads=threads,
        totals=totals,
        state_ns=state_ns,
        off_cpu=off.ns,
        on_cpu=on_cpu,
        samples=sums.samples,
        cells=cells,
        whose=whose,
        lengths=_lengths(lengths, slices, of_row, waits, threads),
        wait_variances=wait_variances(off.ns, off.scale, sums.variances, totals["se_ns"]),
        covariance=covariance,
        sampled=bool(sums.samples[carrier].any()) or not state_ns[carrier, RUNNING].any(),
        thinned=thinned,
        lost=dict(tally.lost),
        host=dict(tally.host),
        costs=dict(tally.costs),
    )


def _classes(
    slices: NDArray[np.void], of_row: Ints, threads: Threads, known: Known, attributor: Attributor,
    listen_ports: list[int] | None,
) -> tuple[Ints, Ints]:
    attributor.trim()
    contexts = np.zeros(len(threads.keys), np.int64)
    for i, ((pid, tid), name) in enumerate(zip(threads.keys, threads.names, strict=True)):
        process = known.processes.get(pid)
        python = bool(process and (process.python or process.note))
        contexts[i] = attributor.context(ThreadContext(name, bool(threads.carrier[i]), pid == tid, python))
    return attributor.classes(slices, contexts[of_row], known, np.array(listen_ports or (), np.int64))


def _lengths(
    lengths: NDArray[np.void], slices: NDArray[np.void], of_row: Ints, waits: Ints, threads: Threads
) -> NDArray[np.void]:
    """Lengths by row as LENGTH_COUNT_DTYPE, those of carriers."""
    lengths = lengths[threads.carrier[of_row[lengths["row"]]]] if len(lengths) else lengths
    rows = lengths["row"]
    words = (
        slices["pid"][rows].astype(np.uint64) << np.uint64(32) | waits[rows].astype(np.uint64) << np.uint64(24)
        | slices["state"][rows].astype(np.uint64) << np.uint64(16)
        | (lengths["bucket"].astype(np.int64) + 32768).astype(np.uint64)
    )
    table = SumTable(1, 1)
    table.add(words[:, None], lengths["weight"].astype(np.int64)[:, None])
    key = table.keys[:, 0]
    out = np.zeros(len(table), LENGTH_COUNT_DTYPE)
    out["pid"], out["class_"] = key >> np.uint64(32), key >> np.uint64(24) & np.uint64(0xFF)
    out["state"] = key >> np.uint64(16) & np.uint64(0xFF)
    out["bucket"] = (key & np.uint64(0xFFFF)).astype(np.int64) - 32768
    out["weight"] = table.sums[:, 0]
    return out
