"""Which processes of the host are to be watched, and to which workload they belong."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from excise.workload import Workload
from excise_agent.config.schema import DiscoveryConfig
from excise_agent.discovery.changes import Changes, Found, Identity
from excise_agent.discovery.gpu import GpuProcesses
from excise_agent.discovery.gpu_thread import GpuThread
from excise_agent.discovery.groups import Group, Groups
from excise_agent.discovery.libraries import Libraries
from excise_agent.discovery.place import Place
from excise_agent.discovery.rules import Rules
from excise_agent.discovery.search import Search
from excise_agent.discovery.subject import Subject, Users
from excise_agent.discovery.table import Known, Table
from excise_agent.host import PROC, read_comm

COST_RATIO: Final = 0.0005  # of a CPU for looking: half of what the whole agent may take on an idle host
MOST_INTERVAL_S: Final = 1.8  # so that a process is found within two seconds of being ready
TURN: Final = 2  # looks after which one process is looked at that shows no change, if there is no other work
_SMOOTHING: Final = 0.1  # weight of the last look in the mean


@dataclass(frozen=True, slots=True)
class DiscoveryCounts:
    """Sums since the start but where it says now."""

    looks: int
    processes: int  # now; without the kernel's threads
    waiting: int  # now: new processes for which this look had no time
    searches: int  # of a process's maps
    searched_bytes: int
    unreadable: int  # maps that the agent may not read
    refused: int  # now: processes that are not watched because there are `most_workloads` already
    cpu_s: float


class Discovery:
    """Owns descriptors of /proc. Call `look` from one thread only, every `interval_s`."""

    def __init__(
        self,
        config: DiscoveryConfig,
        proc: Path = PROC,
        gpu: GpuProcesses | GpuThread | None = None,
        clock: Callable[[], float] = time.monotonic,
        passwd: Path = Path("/etc/passwd"),
        most_held: int | None = None,
    ) -> None:
        self._config = config
        self._proc = proc
        self._gpu = gpu
        self._clock = clock
        self._users = Users(passwd)
        self._rules = Rules(config.workloads)
        self._table = Table(proc, most_held)
        self._search = Search(Libraries(config.libraries), proc)
        self._groups = Groups(
            place=self._place,
            refresh=self._table.refresh,
            program=lambda known: self._subject(known).program,
            comm=lambda known: read_comm(known.pid, proc=proc) or "",
        )
        self._watched: dict[int, Found] = {}
        self._live: Counter[Workload] = Counter()
        self._refused: dict[int, Known] = {}
        self._leaving: dict[int, Known] = {}  # without memory: zombies to be, or their threads go on
        self._looks = 0
        self._cpu_s = self._mean_s = 0.0

    @property
    def watched(self) -> list[Found]:
        return list(self._watched.values())

    @property
    def ignored(self) -> set[int]:
        """Processes that are never to be watched, whatever they belong to."""
        return {pid for pid, known in self._table.by_pid.items() if known.ignored}

    @property
    def interval_s(self) -> float:
        """After which the next look is due: longer where looks are dear."""
        wanted = self._config.interval_s
        return max(wanted, min(MOST_INTERVAL_S, self._mean_s / COST_RATIO))

    @property
    def counts(self) -> DiscoveryCounts:
        search = self._search.counts
        return DiscoveryCounts(
            self._looks, len(self._table.by_pid), self._table.waiting, search.searches, search.read_bytes,
            search.denied, len(self._refused), self._cpu_s,
        )

    def look(self) -> Changes:
        """What has changed since the last look. Raises OSError when /proc itself cannot be listed."""
        before = time.thread_time()
        changes = Changes()
        now = self._clock()
        seen = self._table.look()
        for known in seen.gone:
            self._forget(known, changes)
        for known in seen.changed:
            self._on_change(known)
        for known in list(self._leaving.values()):
            if self._table.has_ended(known):
                self._forget(known, changes)
        fresh = [known for known in seen.new if known.size_bytes]
        for known in fresh:
            self._decide(known)
            if not known.why:
                self._search.ask(known)
        self._look_again(now, fresh)
        self._add(fresh, changes)
        spent = time.thread_time() - before
        self._looks += 1
        self._cpu_s += spent
        self._mean_s = spent if self._looks == 1 else self._mean_s + _SMOOTHING * (spent - self._mean_s)
        return changes

    def close(self) -> None:
        self._table.close()
        if self._gpu is not None:
            self._gpu.close()

    # -- steps

    def _on_change(self, known: Known) -> None:
        if known.size_bytes == 0:
            self._leaving[known.pid] = known
        elif known.pid not in self._watched:
            self._search.ask(known)

    def _look_again(self, now: float, fresh: list[Known]) -> None:
        """Searches those whose turn it is, and reads again what may have changed of them."""
        new = {known.pid for known in fresh}
        due = self._search.due(now)
        if self._looks % TURN == 0 and not due and (turn := self._table.next_in_turn()) and now >= turn.next_read:
            due.append(turn)
        for known in due:
            if known.pid in self._watched or known.size_bytes == 0:
                continue
            if known.pid not in new:
                if self._table.refresh(known) is None:
                    continue
                known.place = None
                self._decide(known)
                fresh.append(known)
            if not known.why and not known.ignored:
                library = self._search.read(known, now)
                known.why = f"maps {library}" if library else ""
        if self._gpu is not None:
            for pid in self._gpu.pids().pids:
                holder = self._table.by_pid.get(pid)
                if holder is not None and not holder.why and not holder.ignored and holder.size_bytes:
                    holder.why = "holds a CUDA context (NVML)"
                    fresh.append(holder)

    def _decide(self, known: Known) -> None:
        """What the rules say of it."""
        if not self._rules:
            return
        subject = self._subject(known)
        known.rule = self._rules.decide(subject)
        known.ignored = known.rule is not None and self._rules.ignores(known.rule)
        if known.rule is not None and not known.ignored:
            known.why = self._rules.sentence(known.rule)

    def _add(self, fresh: list[Known], changes: Changes) -> None:
        for known in fresh:
            if known.why and not known.ignored:
                known.ignored = self._subject(known).is_excise
        matched = [k for k in fresh if k.why and not k.ignored and k.pid not in self._watched]
        new = self._groups.add(matched, fresh, self._table.by_pid)
        for known in new:
            if not known.why:
                known.ignored = known.ignored or self._subject(known).is_excise
        renamed: list[Group] = []
        for known in new:
            group = self._groups.of(known.pid)
            if group is None or known.rule is None or known.ignored or not self._rules.name(known.rule):
                continue
            if group.rule is None or known.rule < group.rule:
                group.rule = known.rule
                renamed.append(group)
        for group in renamed:
            for member in group.members.values():
                old = self._watched.get(member.pid)
                if old is not None and self._workload(member, group) != old.workload:
                    self._unwatch(member, changes)
                    self._watch(member, group, changes)
        for known in [*self._refused.values(), *new]:
            group = self._groups.of(known.pid)
            if group is not None and not known.ignored:
                self._watch(known, group, changes)

    def _watch(self, known: Known, group: Group, changes: Changes) -> None:
        workload = self._workload(known, group)
        if workload not in self._live and len(self._live) >= self._config.most_workloads:
            self._refused[known.pid] = known
            return
        self._refused.pop(known.pid, None)
        self._search.drop(known)
        self._live[workload] += 1
        found = Found(known.pid, known.start_ns, workload, known.why or _why(group))
        self._watched[known.pid] = found
        changes.found.append(found)

    def _unwatch(self, known: Known, changes: Changes) -> None:
        found = self._watched.pop(known.pid, None)
        if found is not None:
            changes.gone.append(Identity(found.pid, found.start_ns))
            self._live[found.workload] -= 1
            if not self._live[found.workload]:
                del self._live[found.workload]

    def _forget(self, known: Known, changes: Changes) -> None:
        self._unwatch(known, changes)
        self._groups.leave(known)
        self._refused.pop(known.pid, None)
        self._leaving.pop(known.pid, None)
        self._search.drop(known)

    def _workload(self, known: Known, group: Group) -> Workload:
        """Its own rule's name, else that of a rule that another member matched, else the host's."""
        name = self._rules.name(known.rule) if known.rule is not None else ""
        if not name and group.rule is not None:
            name = self._rules.name(group.rule)
        return Workload(name, "rule") if name else group.natural

    def _place(self, known: Known) -> Place:
        if known.place is None:
            known.place = self._subject(known).place
        return known.place

    def _subject(self, known: Known) -> Subject:
        return Subject(known.pid, self._proc, self._users)


def _why(group: Group) -> str:
    matched = next((member.pid for member in group.members.values() if member.why), 0)
    kind = "process tree" if group.natural.kind == "process" else group.natural.kind
    return f"in one {kind} with process {matched}"
