"""Workloads: what belongs together with a process that matched.

A pod, a container or a unit is one group. Elsewhere (login sessions, the root group) a process tree is: from the first
ancestor that stands in the same process group, but no shell and nothing that starts other people's programs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from excise.workload import Workload
from excise_agent.discovery.changes import Identity
from excise_agent.discovery.place import Place
from excise_agent.discovery.table import Known

# Programs that start others on somebody's behalf; base names. A tree begins below them.
STARTERS: Final = frozenset((
    "sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "fish", "csh", "tcsh", "busybox", "sshd", "sshd-session",
    "login", "su", "sudo", "doas", "runuser", "tmux", "screen", "systemd", "init", "tini", "dumb-init", "catatonit",
    "s6-supervise", "s6-svscan", "runsv", "runsvdir", "supervisord", "cron", "crond", "atd", "containerd-shim",
    "containerd-shim-runc-v2", "conmon", "dockerd", "xinetd", "agetty", "make", "timeout", "watch", "script",
    "xargs", "env", "nohup", "time", "setsid", "strace", "gdb",
))

Key: TypeAlias = Workload | Identity  # of a place; of a tree's first process


@dataclass(slots=True)
class Group:
    natural: Workload  # its name where no rule gives one
    members: dict[int, Known] = field(default_factory=dict)
    rule: int | None = None  # the first rule with a name that one of them ever matched


class Groups:
    """Whose member each watched process is. It asks for what it does not know: a place, a parent, a name."""

    def __init__(
        self,
        place: Callable[[Known], Place],
        refresh: Callable[[Known], object],
        program: Callable[[Known], str],
        comm: Callable[[Known], str],
    ) -> None:
        self._place = place
        self._refresh = refresh
        self._program = program
        self._comm = comm
        self._groups: dict[Key, Group] = {}
        self._key_of: dict[int, Key] = {}  # by pid
        self._refreshed = False

    def of(self, pid: int) -> Group | None:
        key = self._key_of.get(pid)
        return None if key is None else self._groups[key]

    def add(self, matched: Iterable[Known], fresh: Iterable[Known], by_pid: dict[int, Known]) -> list[Known]:
        """Makes groups for what has matched and finds what belongs to them. The new members, oldest first."""
        new: list[Known] = []
        self._refreshed = False
        before = len(self._groups)
        for known in matched:
            if known.pid not in self._key_of:
                key, first = self._key(known, by_pid)
                self._join(first, key, new)
                self._join(known, key, new)
        if not self._groups:
            return new
        candidates = by_pid.values() if len(self._groups) > before else fresh
        for known in list(candidates):
            workload = self._place(known).workload
            if workload is not None and workload in self._groups and known.pid not in self._key_of:
                self._join(known, workload, new)
        if any(isinstance(key, Identity) for key in self._groups):
            self._grow_trees(by_pid, new)
        return sorted((known for known in new if not known.ignored), key=lambda known: (known.start_ns, known.pid))

    def leave(self, known: Known) -> None:
        key = self._key_of.pop(known.pid, None)
        if key is not None:
            group = self._groups[key]
            del group.members[known.pid]
            if all(member.ignored for member in group.members.values()):
                for pid in group.members:
                    del self._key_of[pid]
                del self._groups[key]

    # -- steps

    def _key(self, known: Known, by_pid: dict[int, Known]) -> tuple[Key, Known]:
        """Its group, and the group's first process; makes the group where there is none."""
        workload = self._place(known).workload
        if workload is not None:
            self._groups.setdefault(workload, Group(workload))
            return workload, known
        if not self._refreshed:  # what was read before may be old (a new parent, a new process group)
            self._refreshed = True
            for member in by_pid.values():
                self._refresh(member)
        parent = by_pid.get(known.parent)
        if parent is not None and self._is_in_tree(parent):
            return self._key_of[parent.pid], known
        first = self._first_of_tree(known, by_pid)
        key = self._key_of.get(first.pid)
        if key is None:
            key = first.identity
            self._groups[key] = Group(Workload(self._comm(first) or "?", "process"))
        return key, first

    def _first_of_tree(self, known: Known, by_pid: dict[int, Known]) -> Known:
        first, seen = known, {known.pid}
        while True:
            above = by_pid.get(first.parent)
            if (
                above is None
                or above.pid in seen  # read one after the other, parents may make a ring
                or known.group == 0  # of another pid namespace: nothing is known
                or above.group != known.group
                or above.start_ns > first.start_ns
                or above.ignored
                or self._place(above).workload is not None
                or self._program(above) in STARTERS
            ):
                return first
            first = above
            seen.add(first.pid)

    def _is_in_tree(self, known: Known) -> bool:
        return isinstance(self._key_of.get(known.pid), Identity)

    def _grow_trees(self, by_pid: dict[int, Known], new: list[Known]) -> None:
        """Descendants, one look at all. Those that must not be watched are passed through."""
        below: dict[int, list[Known]] = {}
        for known in by_pid.values():
            if known.pid not in self._key_of:
                below.setdefault(known.parent, []).append(known)
        front = [by_pid[pid] for pid in self._key_of if self._is_in_tree(by_pid[pid]) and pid in below]
        while front:
            parent = front.pop()
            for child in below.get(parent.pid, ()):
                loose = child.start_ns >= parent.start_ns and self._place(child).workload is None
                if loose and child.size_bytes and child.pid not in self._key_of:
                    self._join(child, self._key_of[parent.pid], new)
                    front.append(child)

    def _join(self, known: Known, key: Key, new: list[Known]) -> None:
        if known.pid not in self._key_of and known.size_bytes:  # without memory it has ended
            self._key_of[known.pid] = key
            self._groups[key].members[known.pid] = known
            new.append(known)
