"""Carries a cursor's items to a sink, in a thread of its own: what hurts one sink hurts nobody else."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from excise.spool import Entry, Gap, Item
from excise_agent.sinks.backoff import backoff_s
from excise_agent.sinks.counts import REJECTED, read_counts, span, write_counts
from excise_agent.sinks.sink import AgentInfo, Sink, SinkError

BATCH: Final = 32  # items; about 5 minutes of a workload
SUSPECT: Final = 6  # failures in a row after which the first item is suspected: half a minute or so
IDLE_S: Final = 2.0  # between two looks for something new
_log = logging.getLogger(__name__)


class Cursor(Protocol):
    """A place in the spool that outlives restarts: `excise.spool.Cursor`."""

    def next(self, most: int) -> Sequence[Item]:
        """What follows the last `ack`, in order, again and again."""

    def ack(self, sequence: int) -> None: ...
    def lag(self) -> int: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class SinkState:
    """Of one sink. `delivered` and `lost` are since its first window, over restarts; the rest is since the start."""

    name: str
    delivered: int  # windows
    lost: Mapping[str, int]  # reason -> windows
    retries: int
    last_error: str | None
    last_error_wall_ns: int | None
    last_delivery_wall_ns: int | None
    failures: int  # in a row; 0: it works
    lag: int | None  # windows in the spool that it has not got; None: not known
    waiting_since_wall_ns: int | None = None  # end of the oldest of these; None: none waits, or it is not known


class Shipper:
    """Owns its sink and its cursor. A window is counted when it is done with, before the cursor is told: whatever
    comes twice is counted once."""

    def __init__(self, sink: Sink, cursor: Cursor, agent: AgentInfo, counts_file: Path, *,
                 draw: Callable[[], float] = random.random, wall_ns: Callable[[], int] = time.time_ns) -> None:
        self._sink, self._cursor, self._agent, self._counts_file = sink, cursor, agent, counts_file
        self._draw, self._wall_ns = draw, wall_ns
        self._counts = read_counts(counts_file, agent.agent)
        self._batch, self._failures, self._retries = BATCH, 0, 0
        self._error: tuple[str, int] | None = None
        self._delivery_ns: int | None = None
        self._lag: int | None = None
        self._waiting_ns: int | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"sink-{sink.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, within_s: float) -> bool:
        """Whether it ended in time. A delivery under way has half of the time to end by itself. What was not
        delivered stays in the spool."""
        self._stopping.set()
        if self._thread.ident is None:
            return True
        self._thread.join(within_s / 2)
        self._sink.interrupt()
        self._thread.join(within_s / 2)
        return not self._thread.is_alive()

    def state(self) -> SinkState:
        """From any thread."""
        counts, error = self._counts, self._error
        text, when = error if error else (None, None)
        return SinkState(self._sink.name, counts.delivered, counts.lost, self._retries, text, when,
                         self._delivery_ns, self._failures, self._lag, self._waiting_ns)

    def step(self) -> float:
        """One round; how many seconds to wait before the next."""
        try:
            pause_s = self._ship()
        except Exception as error:  # noqa: BLE001  the thread's top frame: a sink that is wrong must not end it
            return self._failed(error)
        if self._failures:
            _log.info("%s: works again, after %d failures", self._sink.name, self._failures)
        self._failures = 0
        return pause_s

    def _run(self) -> None:
        try:
            while not self._stopping.wait(self.step()):
                pass
        finally:
            self._sink.close()
            self._cursor.close()

    def _ship(self) -> float:
        self._lag = self._cursor.lag()
        suspicious = self._failures >= SUSPECT
        items = self._cursor.next(BATCH if suspicious else self._batch)
        if not items:
            return IDLE_S
        if suspicious:
            items, refused = self._suspect(items)
        else:
            refused = self._carry(items)
            self._check_proof(items, refused)
        self._report(refused)
        self._counts = self._counts.after(items, {span(item)[0] for item, _ in refused})
        write_counts(self._counts_file, self._agent.agent, self._counts)
        self._cursor.ack(span(items[-1])[1])
        self._lag = self._cursor.lag()
        backlog = suspicious or len(items) >= self._batch
        self._batch = min(BATCH, 2 * self._batch)
        return 0.0 if backlog else self._sink.pause_s

    def _carry(self, items: Sequence[Item]) -> list[tuple[Item, str]]:
        """Those of them that the server refuses, found by halving, with what it says."""
        try:
            self._deliver(items)
            return []
        except SinkError as error:
            if error.kind == "retry":
                raise
            if len(items) == 1:
                return [(items[0], str(error))]
        half = len(items) // 2
        return self._carry(items[:half]) + self._carry(items[half:])

    def _suspect(self, items: Sequence[Item]) -> tuple[Sequence[Item], list[tuple[Item, str]]]:
        """After many failures: is it the first item? A server that breaks down at it says nothing of that, but it
        takes another one, each time another. What is done with; SinkError if that one fails too."""
        first, others = items[:1], [item for item in items[1:] if isinstance(item, Entry)]
        try:
            refused = self._carry(first)
        except SinkError as error:
            refused = [(first[0], f"it takes others and not this one: {error}")]
        if not refused:
            return first, []
        if not others:
            raise SinkError(refused[0][1], "retry")
        try:
            self._deliver([others[self._failures % len(others)]])  # that one will come again
        except SinkError as error:
            raise SinkError(f"takes nothing: {error}" if error.kind == "rejected" else str(error), "retry") from error
        try:
            return first, self._carry(first)
        except SinkError:
            return first, refused

    def _deliver(self, items: Sequence[Item]) -> None:
        if items:
            self._sink.deliver(self._agent, items)
            self._delivery_ns = self._wall_ns()

    def _check_proof(self, items: Sequence[Item], refused: Sequence[tuple[Item, str]]) -> None:
        """Nothing is given up because of a server that takes nothing (a table is missing, say): it must have taken a
        summary in the same round. SinkError(retry) otherwise, and more are tried the next time."""
        if not refused:
            return
        bad = {id(item) for item, _ in refused}
        if not any(isinstance(item, Entry) and id(item) not in bad for item in items):
            self._batch = min(BATCH, 4 * self._batch)  # `_failed` halves it
            raise SinkError(f"takes nothing: {refused[0][1]}", "retry")

    def _report(self, refused: Sequence[tuple[Item, str]]) -> None:
        """Refused windows are named here, and to the server as lost."""
        for item, why in refused:
            first, last = span(item)
            text = f"{REJECTED} {first}-{last}: {why}" if last > first else f"{REJECTED} {first}: {why}"
            self._error = text, self._wall_ns()
            _log.warning("%s: %s", self._sink.name, text)
        gaps = [Gap(item.sequence, item.sequence, REJECTED) for item, _ in refused if isinstance(item, Entry)]
        try:
            self._deliver(gaps)
        except SinkError as error:
            if error.kind == "retry":
                raise

    def _failed(self, error: Exception) -> float:
        if self._stopping.is_set():
            return 0.0
        text = str(error) if isinstance(error, SinkError) else f"{type(error).__name__}: {error}"
        self._failures += 1
        self._retries += 1
        self._batch = max(2, self._batch // 2)  # a smaller one may get through where a big one takes too long
        self._error = text, self._wall_ns()
        if self._failures == 1:
            _log.warning("%s: %s; the spool keeps what it should get, and it is tried again", self._sink.name, text)
        return backoff_s(self._failures, self._draw)
