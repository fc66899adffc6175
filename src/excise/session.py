"""A session: items in, a report out. The same live and replayed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from excise.batch import Batch, Cost, Definitions, End, Header, HostSample, Item, Totals
from excise.frames import Frame, Process, Stack, Thread
from excise.ledger.attribute import Attributor
from excise.ledger.definitions import Known
from excise.ledger.ended import Ended
from excise.ledger.table import SumTable
from excise.ledger.tally import Tally
from excise.stages import Rules


class Session:
    """Feed it a stream of items; ask for the report at any time."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.header: Header | None = None
        self.end: End | None = None
        self.start_ns = 0
        self.stop_ns = 0
        self.known = Known()
        self.tally = Tally()
        self.attributor = Attributor(rules)
        self.ended = Ended()

    def feed(self, item: Item) -> None:
        """Takes one item of the stream, in order."""
        match item:
            case Header():
                self.header = item
                self.start_ns = self.stop_ns = item.start_mono_ns
            case Definitions():
                self.known.define(item)
            case Batch():
                self.tally.take_batch(item)
            case Totals():
                self.stop_ns = max(self.stop_ns, item.end_ns)
                self.tally.take_totals(item)
                self.ended.note(self.known, item.rows["pid"].tolist())
                if moves := self.ended.fold(self.known):
                    self.tally.move(moves)
            case HostSample():
                self.tally.take_host(item)
            case Cost():
                self.tally.take_cost(item)
            case End():
                self.end = item

    @property
    def frames(self) -> list[Frame]:
        return self.known.frames

    @property
    def stacks(self) -> list[Stack]:
        return self.known.stacks

    @property
    def processes(self) -> dict[int, Process]:
        return self.known.processes

    @property
    def threads(self) -> dict[int, Thread]:
        return self.known.threads

    @property
    def lost(self) -> dict[str, int]:
        return self.tally.lost

    @property
    def host(self) -> dict[str, Any]:
        return self.tally.host

    @property
    def costs(self) -> dict[str, Any]:
        """What watching cost so far: the sums of `Cost` items."""
        return self.tally.costs

    @property
    def totals(self) -> SumTable:
        """By thread; empty until the first totals came."""
        return self.tally.totals

    def slices(self) -> NDArray[np.void]:
        """All slices so far, folded: SLICE_DTYPE (n,), with `waker` zero."""
        return self.tally.slices()

    def totals_array(self) -> NDArray[np.void]:
        """Totals, TOTALS_DTYPE (T,), one row a thread."""
        return self.tally.totals_array()
