"""Each window of a stream accounted on its own, as it ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from excise.batch import Batch, Cost, Definitions, End, Header, HostSample, Item, Totals
from excise.ledger.account import Accounted, account
from excise.ledger.attribute import Attributor
from excise.ledger.definitions import Known
from excise.ledger.tally import Tally
from excise.ledger.threads import Key, Memory
from excise.names import KERNEL_STATES
from excise.stages import Rules


@dataclass(frozen=True, slots=True)
class Window:
    """One window: its span, CLOCK_MONOTONIC, what was found in it, and what the numbers in it stand for.

    `known` goes on changing with the stream: read it in the callback. Losses, the host's counters and our cost are in
    `found`: {} when no such item came before the window's totals.
    """

    start_ns: int
    end_ns: int
    header: Header
    found: Accounted
    known: Known


class Windows:
    """Feed it what a `Session` is fed; at each `Totals` it accounts for what came since the last and calls `emit`.

    Names, verdicts and who carries stay from window to window; sums start anew. Sums over windows are those of the
    whole: what a window lacks to bring a state's total up to zero is taken off the same thread's next one. A host
    sample or cost that comes after its window's totals is let go, but for the ports that it names.
    """

    def __init__(self, rules: Rules, emit: Callable[[Window], None]) -> None:
        self.header: Header | None = None
        self.end: End | None = None
        self.known = Known()
        self._emit = emit
        self._attributor = Attributor(rules)
        self._memory = Memory()
        self._tally = Tally()
        self._last_ns = 0
        self._ports: list[int] = []
        self._carried: dict[Key, NDArray[np.int64]] = {}
        self._absent: set[int] = set()

    def feed(self, item: Item) -> None:
        """Takes one item of the stream, in order."""
        match item:
            case Header():
                self.header = item
            case Definitions():
                self.known.define(item)
            case Batch():
                self._tally.take_batch(item)
            case Totals():
                self._close(item)
            case HostSample():
                self._ports = sorted({*self._ports, *(item.values.get("listen_ports") or ())})
                if item.end_ns > self._last_ns:
                    self._tally.take_host(item)
            case Cost():
                if item.end_ns > self._last_ns:
                    self._tally.take_cost(item)
            case End():
                self.end = item

    def _close(self, item: Totals) -> None:
        if self.header is None:
            raise ValueError("the stream has no header")
        tally, self._tally = self._tally, Tally()
        tally.take_totals(item)
        if self._ports:
            tally.host["listen_ports"] = self._ports
        carried = self._carry_in(tally.totals_array())
        found = account(tally, self.known, self._attributor, self._memory, carried)
        self._carry_out(found, carried)
        self._last_ns = item.end_ns
        self._emit(Window(item.start_ns, item.end_ns, self.header, found, self.known))
        self._memory.keep(found.threads.keys)
        self._forget_absent({pid for pid, _ in found.threads.keys})

    def _carry_in(self, totals: NDArray[np.void]) -> NDArray[np.int64]:
        out = np.zeros((len(totals), len(KERNEL_STATES)), np.int64)
        if self._carried:
            for i, key in enumerate(zip(totals["pid"].tolist(), totals["tid"].tolist(), strict=True)):
                if key in self._carried:
                    out[i] = self._carried[key]
        return out

    def _carry_out(self, found: Accounted, carried: NDArray[np.int64]) -> None:
        left = found.totals["state_ns"] + carried - found.state_ns
        keys = found.threads.keys
        self._carried = {keys[i]: left[i] for i in np.flatnonzero(left.any(axis=1)).tolist()}

    def _forget_absent(self, present: set[int]) -> None:
        """Definitions of processes without a thread for two windows in a row go: the first may precede its totals."""
        absent = set(self.known.processes) | {t.pid for t in self.known.threads.values()}
        absent -= present
        gone = absent & self._absent
        self._absent = absent - gone
        if gone:
            self.known.processes = {p: v for p, v in self.known.processes.items() if p not in gone}
            self.known.threads = {t: v for t, v in self.known.threads.items() if v.pid not in gone}
