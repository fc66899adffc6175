"""Totals of a window in which the switch hooks were on for a part of the time only.

Running and runnable are the scheduler's own counts, exact. What is left of a thread's life it was blocked; in which
state is estimated from the phases in which the hooks were on: a ratio estimate over phases (clusters), with its
standard error. A thread that did not switch at all is still in the wait that it was last seen in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from excise.batch import TOTALS_DTYPE
from excise.names import KERNEL_STATE_ID, KERNEL_STATES
from excise_agent.edges import RUNNABLE, RUNNING, Edge
from excise_agent.window import Scheds, ThreadKey

OTHER = KERNEL_STATE_ID["other"]
_NOT_BLOCKED = (RUNNING, RUNNABLE, KERNEL_STATE_ID["stolen"])
_STATES = len(KERNEL_STATES)


@dataclass(slots=True)
class _Seen:
    """What is known of a thread in this window."""

    born_ns: int
    begun: tuple[int, int]  # the scheduler's counts at the window's start
    closed: NDArray[np.int64]  # the kernel's sums at the end of the last phase
    phases: list[NDArray[np.int64]] = field(default_factory=list)
    state: int = OTHER  # the wait that it was last seen in
    slices: int = -1  # how often it had run then; -1 not known
    ended: tuple[int, int, int] | None = None  # when, running, runnable
    last: tuple[int, int, int] | None = None  # the same, when it was last seen alive


@dataclass(slots=True)
class PhasedWindow:
    """`look(pid, tid)` reads a blocked thread's state off /proc (a KERNEL_STATES index; None: it runs, or has gone)."""

    look: Callable[[int, int], int | None]
    start_ns: int = 0
    _threads: dict[ThreadKey, _Seen] = field(default_factory=dict)

    def open(self, edge: Edge, sched: Scheds) -> None:
        """Begins at this edge, with the hooks off."""
        before, self._threads = self._threads, {}
        self.start_ns = edge.now_ns
        for i, key in enumerate(edge.keys()):
            counts = sched.get(key, (0, 0, -1))
            seen = _Seen(edge.now_ns, counts[:2], edge.closed_ns[i].copy())
            known = before.get(key)
            if known is not None:
                seen.state, seen.slices = known.state, known.slices
            elif not edge.stale[i] and int(edge.states[i]) not in _NOT_BLOCKED:
                seen.state, seen.slices = int(edge.states[i]), counts[2]
            self._threads[key] = seen

    def end_phase(self, edge: Edge, sched: Scheds, phase_ns: int) -> tuple[list[int], list[int]]:
        """What was seen in a phase of this length, which ends at this edge.

        Returns indices of threads that were blocked all through: in the wait that the kernel's map has (its stack
        included), and in one that nobody has walked.
        """
        same: list[int] = []
        unknown: list[int] = []
        for i, key in enumerate(edge.keys()):
            seen = self._thread(key, edge, i)
            slices = sched[key][2] if key in sched else -1
            if key in sched:
                seen.last = edge.now_ns, *sched[key][:2]
            if edge.stale[i]:  # it did not switch in this phase: it ran all the time, or was blocked
                still = slices >= 0 and slices == seen.slices
                blocked = self._still_blocked(key, seen, slices)
                delta = np.zeros(_STATES, np.int64)
                if blocked is not None:
                    delta[blocked] = phase_ns
                    (same if still and edge.values["weight"][i] else unknown).append(i)
            else:
                delta = edge.state_ns[i] - seen.closed
                state = int(edge.states[i])
                if state not in _NOT_BLOCKED:
                    seen.state, seen.slices = state, slices
                else:
                    seen.slices = -1
            seen.closed = edge.closed_ns[i].copy()
            delta[list(_NOT_BLOCKED)] = 0
            seen.phases.append(np.maximum(delta, 0))
        return same, unknown

    def looked_at_again(self, key: ThreadKey) -> None:
        """The kernel's map has a new entry for it, whose sums begin at zero."""
        self._threads[key].closed[:] = 0

    def bury(self, key: ThreadKey, edge: Edge, i: int) -> None:
        """A thread that has ended: the scheduler's counts at its exit are the kernel map's; those last seen without."""
        seen = self._thread(key, edge, i)
        v = edge.values[i]
        if v["end_ns"]:
            seen.ended = int(v["end_ns"]), int(v["end_exec_ns"]), int(v["end_delay_ns"])
        else:
            seen.ended = edge.now_ns, int(v["exec_ns"]), int(v["delay_ns"])

    def close(self, edge: Edge, sched: Scheds) -> NDArray[np.void]:
        """TOTALS_DTYPE (threads,) up to this edge, `se_ns` included."""
        for i, key in enumerate(edge.keys()):
            if self._thread(key, edge, i).ended is None and edge.values["end_ns"][i]:
                self.bury(key, edge, i)
        here = set(edge.keys())
        for key, seen in self._threads.items():
            if seen.ended is None and key not in here:  # it went while it was looked at, and nothing says when
                seen.ended = seen.last or (seen.born_ns, *seen.begun)
        rows = [row for key, seen in self._threads.items() if (row := self._row(key, seen, edge.now_ns, sched))]
        return np.array(rows, TOTALS_DTYPE)

    def _thread(self, key: ThreadKey, edge: Edge, i: int) -> _Seen:
        seen = self._threads.get(key)
        if seen is None:  # born in this window
            born_ns = max(int(edge.values["born_ns"][i]), self.start_ns)
            seen = self._threads[key] = _Seen(born_ns, (0, 0), np.zeros(_STATES, np.int64))
        return seen

    def _still_blocked(self, key: ThreadKey, seen: _Seen, slices: int) -> int | None:
        if slices >= 0 and slices == seen.slices:
            return seen.state
        state = self.look(*key)
        if state is None or state in _NOT_BLOCKED:
            seen.slices = -1
            return None
        seen.state, seen.slices = state, slices
        return state

    def _row(self, key: ThreadKey, seen: _Seen, now_ns: int, sched: Scheds) -> tuple[object, ...] | None:
        end_ns, counts = now_ns, sched.get(key)
        known = counts is not None
        running, runnable = counts[:2] if counts is not None else seen.begun
        if seen.ended is not None:
            end_ns, running, runnable = seen.ended
            known = False  # the check against the scheduler would be one against itself
        lifetime = max(end_ns - seen.born_ns, 0)
        if not lifetime:
            return None
        ran = min(max(running - seen.begun[0], 0), lifetime)
        wanted = min(max(runnable - seen.begun[1], 0), lifetime - ran)
        alone = seen.state if seen.slices >= 0 else OTHER
        state_ns, se_ns = blocked_states(lifetime - ran - wanted, seen.phases, alone)
        state_ns[RUNNING], state_ns[RUNNABLE] = ran, wanted
        return (*key, state_ns, lifetime, ran if known else -1, wanted if known else -1, se_ns)


def blocked_states(
    blocked_ns: int, phases: list[NDArray[np.int64]], state: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Splits a thread's blocked time over states as the phases saw them: (states,) ns that sum to it, and errors.

    phases: by phase, blocked ns by state (states,). Without any, all of it is taken for `state`, with an error as
    large.
    Source: ratio estimate over clusters, Cochran, Sampling Techniques, 3rd ed., 6.3 and 9.9.
    """
    state_ns, se_ns = np.zeros(_STATES, np.int64), np.zeros(_STATES, np.int64)
    if blocked_ns <= 0:
        return state_ns, se_ns
    seen = np.array(phases, np.float64).reshape(len(phases), _STATES)
    of_phase = seen.sum(axis=1)
    whole = of_phase.sum()
    if whole <= 0:
        state_ns[state] = se_ns[state] = blocked_ns
        return state_ns, se_ns
    share = seen.sum(axis=0) / whole
    state_ns[:] = np.floor(share * blocked_ns)
    state_ns[int(share.argmax())] += blocked_ns - int(state_ns.sum())
    n = int((of_phase > 0).sum())
    if n > 1:
        residual = seen - of_phase[:, None] * share[None, :]
        variance = n / (n - 1) * (residual**2).sum(axis=0) / whole**2
    else:
        variance = share * (1 - share)
    se_ns[:] = np.rint(np.sqrt(variance) * blocked_ns)
    return state_ns, se_ns
