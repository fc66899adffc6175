"""Takes a stream of many processes apart: each part is the stream of some of them, as if only they had been watched.

What the stream has of all of them together is shared out: our cost by the CPU time that each part used, losses by the
rows that each part has, in whole numbers that add up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from excise.batch import Batch, Cost, Definitions, End, Header, HostSample, Item, Totals
from excise.frames import Frame, Process, Stack, Thread
from excise.names import KERNEL_STATES

RUNNING: Final = KERNEL_STATES.index("running")
_SHARED: Final = ("agent_ns", "bpf_ns", "tick_ns")
_CLOCK_NS: Final = 5_000_000  # so far may the wall clock have moved since the header
_PATIENCE: Final = 2  # windows without a thread, until a process is taken to be gone: a new one has none in its first


@dataclass(eq=False)
class Part:
    """`pids`: whose stream it is; children of these join by themselves (if `children`), those that end leave.

    sink: takes the items. target, host: of its header. sample(pids, start_ns, end_ns): what the host says of them
    over a window; None: nothing.
    """

    pids: set[int]
    sink: Callable[[Item], None]
    target: dict[str, Any]
    host: dict[str, Any]
    sample: Callable[[list[int], int, int], HostSample | None] = lambda *_: None
    children: bool = True
    exclusive: bool = True  # a process is of one such part only; others overlap with them
    _absent: dict[int, int] = field(default_factory=dict)
    _held: list[tuple[Cost | None, Totals]] = field(default_factory=list)

    def hold(self, cost: Cost | None, totals: Totals) -> None:
        """To be given with the next totals, as one window."""
        self._held.append((cost, totals))

    @property
    def since_ns(self) -> int | None:
        """When what is held begins; None: nothing is."""
        return self._held[0][1].start_ns if self._held else None

    def give(self) -> None:
        """What is held, as the end of one window."""
        held, self._held = self._held, []
        if not held:
            return
        for cost, _ in held:
            if cost is not None:
                self.sink(cost)
        start_ns, end_ns = held[0][1].start_ns, held[-1][1].end_ns
        sample = self.sample(sorted(self.pids), start_ns, end_ns)
        if sample is not None:
            self.sink(sample)
        rows = [totals.rows for _, totals in held]
        self.sink(Totals(start_ns, end_ns, np.concatenate(rows) if len(rows) > 1 else rows[0]))

    def notice(self, present: set[int]) -> None:
        """`present`: who had a thread in the window that has just ended."""
        for pid in list(self.pids):
            if pid in present:
                self._absent.pop(pid, None)
                continue
            self._absent[pid] = self._absent.get(pid, 0) + 1
            if self._absent[pid] >= _PATIENCE:
                self.pids.discard(pid)
                del self._absent[pid]


class Partition:
    """Feed it the items of a stream. Parts come and go where a window ends: `add` one right after its `Totals`.

    `window_ns`: of the parts, at multiples of the wall clock. A window of the stream that ends before, because a part
    begins there or the watch changes the way it looks, is no end for the parts that go on: they get its totals with the
    next ones. (Parts that overlap, `exclusive` False, get all as they come.) 0: each ends with the stream's.
    """

    def __init__(self, window_ns: int = 0) -> None:
        self._window_ns = window_ns
        self.lost: dict[str, int] = {}  # while there was no part that it could be a loss of
        self.header: Header | None = None
        self._parts: list[Part] = []
        self._frames: list[Frame] = []
        self._stacks: list[Stack] = []
        self._processes: dict[int, Process] = {}
        self._threads: dict[int, Thread] = {}
        self._cost: Cost | None = None
        self._absent: set[int] = set()

    @property
    def parts(self) -> tuple[Part, ...]:
        return tuple(self._parts)

    def move(self, pids: set[int], to: Part) -> None:
        """These are of this part from here on, and of none of those that are told apart from it."""
        for part in self._parts:
            if part is not to and part.exclusive and to.exclusive:
                part.pids -= pids
        to.pids |= pids

    def process(self, pid: int) -> Process | None:
        """As it was defined last."""
        return self._processes.get(pid)

    def tree(self, root: int) -> set[int]:
        """`root` and those of its descendants that the stream has named."""
        found = {root}
        while True:
            more = {p.pid for p in self._processes.values() if p.parent in found} - found
            if not more:
                return found
            found |= more

    def add(self, part: Part, now_ns: int) -> None:
        """From here on, CLOCK_MONOTONIC. It is told what has been defined so far. ValueError: the stream has no header
        yet."""
        if self.header is None:
            raise ValueError("the stream has no header")
        began = self._header_of(part, self.header)
        part.sink(
            replace(began, start_wall_ns=now_ns + began.start_wall_ns - began.start_mono_ns, start_mono_ns=now_ns)
        )
        ours = part.pids
        part.sink(
            Definitions(
                list(self._frames),
                list(self._stacks),
                [p for p in self._processes.values() if p.pid in ours],
                [t for t in self._threads.values() if t.pid in ours],
            )
        )
        self._parts.append(part)

    def remove(self, part: Part) -> None:
        """It gets what was held, and nothing more."""
        part.give()
        self._parts.remove(part)

    def feed(self, item: Item) -> None:
        """Takes one item of the whole stream, in order."""
        match item:
            case Header():
                self.header = item
                for part in self._parts:
                    part.give()  # it was another rate, or another time
                    part.sink(self._header_of(part, item))
            case Definitions():
                self._define(item)
            case Batch():
                self._batch(item)
            case HostSample():
                pass  # of all of them together: parts ask for their own
            case Cost():
                self._cost = item
            case Totals():
                self._totals(item)
            case End():
                for part in self._parts:
                    part.give()
                    part.sink(item)

    @staticmethod
    def _header_of(part: Part, header: Header) -> Header:
        return replace(header, target={**header.target, **part.target}, host=part.host)

    def _define(self, item: Definitions) -> None:
        self._frames += item.frames
        self._stacks += item.stacks
        for process in item.processes:
            known = self._processes.get(process.pid)
            self._processes[process.pid] = process
            if known is not None and known.start_ns != process.start_ns:
                for part in self._parts:
                    part.pids.discard(process.pid)  # the number is another process's now
        self._join(item.processes)
        self._threads |= {t.tid: t for t in item.threads}
        for part in self._parts:
            processes = [p for p in item.processes if p.pid in part.pids]
            threads = [t for t in item.threads if t.pid in part.pids]
            if item.frames or item.stacks or processes or threads:
                part.sink(Definitions(item.frames, item.stacks, processes, threads))

    def _join(self, processes: list[Process]) -> None:
        """Those whose parent is of a part, whatever their order. Parts may overlap: a child joins all that have its
        parent."""
        left = [p for p in processes if not self._is_elsewhere(p.pid)]
        while left:
            joined = False
            for part in self._parts:
                for process in left if part.children else ():
                    if process.parent in part.pids and process.pid not in part.pids:
                        part.pids.add(process.pid)
                        joined = True
            if not joined:
                return

    def _is_elsewhere(self, pid: int) -> bool:
        return any(pid in part.pids for part in self._parts)

    def _batch(self, item: Batch) -> None:
        if not any(part.exclusive for part in self._parts):
            for name, count in item.lost.items():
                self.lost[name] = self.lost.get(name, 0) + count
        masks = self._masks(item.slices["pid"])
        lost = self._shares(item.lost, [int(mask.sum()) for mask in masks])
        for part, mask, losses in zip(self._parts, masks, lost, strict=True):
            if not losses and not mask.any():
                continue
            lengths = item.lengths[mask[item.lengths["row"]]]
            lengths["row"] = (np.cumsum(mask) - 1)[lengths["row"]]
            part.sink(Batch(item.start_ns, item.end_ns, item.slices[mask], losses, lengths))

    def _is_over(self, since_ns: int | None, now_ns: int) -> bool:
        """Whether a window of the wall clock has ended in between."""
        if not self._window_ns or since_ns is None or self.header is None:
            return True
        offset = self.header.start_wall_ns - self.header.start_mono_ns + _CLOCK_NS
        return (since_ns + offset) // self._window_ns != (now_ns + offset) // self._window_ns

    def _masks(self, pids: NDArray[np.uint32]) -> list[NDArray[np.bool_]]:
        """By part, which of these rows (n,) are its own."""
        found, which = np.unique(pids, return_inverse=True)
        known = found.tolist()
        return [np.array([pid in part.pids for pid in known], bool)[which] for part in self._parts]

    def _totals(self, item: Totals) -> None:
        present = set(item.rows["pid"].tolist())
        masks = self._masks(item.rows["pid"])
        running = [int(item.rows["state_ns"][mask, RUNNING].sum()) for mask in masks]
        costs = self._take_costs(running)
        for part, mask, cost in zip(self._parts, masks, costs, strict=True):
            if mask.any():  # else it has ended, or has not begun
                part.hold(cost, Totals(item.start_ns, item.end_ns, item.rows[mask]))
            if not part.exclusive or self._is_over(part.since_ns, item.end_ns):
                part.give()
            part.notice(present)
        self._forget(present)

    def _take_costs(self, running: list[int]) -> list[Cost | None]:
        whole, self._cost = self._cost, None
        if whole is None:
            return [None] * len(running)
        known = {name: round(v) for name in _SHARED if isinstance(v := whole.values.get(name), (int, float))}
        rest = {**whole.values, **dict.fromkeys(known, 0)}
        return [
            Cost(whole.start_ns, whole.end_ns, {**rest, **mine, "target_cpu_ns": used})
            for mine, used in zip(self._shares(known, running), running, strict=True)
        ]

    def _shares(self, counts: Mapping[str, int], weights: list[int]) -> list[dict[str, int]]:
        """By part. Those that are told apart have all of it together; one that overlaps has what it would have."""
        apart = [weight for part, weight in zip(self._parts, weights, strict=True) if part.exclusive]
        shares = iter(_share(counts, apart))
        return [
            next(shares) if part.exclusive else _share(counts, [weight, max(sum(apart) - weight, 0)])[0]
            for part, weight in zip(self._parts, weights, strict=True)
        ]

    def _forget(self, present: set[int]) -> None:
        absent = {pid for pid in self._processes if pid not in present}
        gone = {pid for pid in absent & self._absent if not self._is_elsewhere(pid)}
        self._absent = absent
        if gone:
            self._processes = {p: v for p, v in self._processes.items() if p not in gone}
            self._threads = {t: v for t, v in self._threads.items() if v.pid not in gone}


def _share(counts: Mapping[str, int], weights: list[int]) -> list[dict[str, int]]:
    """Whole numbers by weight (all alike when none has any), the largest remainders rounded up: they add up."""
    out: list[dict[str, int]] = [{} for _ in weights]
    if not weights:
        return out
    of: NDArray[np.float64] = np.array(weights, np.float64) if any(weights) else np.ones(len(weights))
    for name, count in counts.items():
        exact = count * of / of.sum()
        whole = np.floor(exact).astype(np.int64)
        left = count - int(whole.sum())
        whole[np.argsort(whole - exact, kind="stable")[:left]] += 1
        for mine, part in zip(out, whole.tolist(), strict=True):
            if part:
                mine[name] = part
    return out

