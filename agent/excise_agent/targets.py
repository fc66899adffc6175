"""The processes and threads that are watched, kept the same in the kernel's maps and here.

New threads and children come from the kernel's own hooks, from their first tick. What existed before is enumerated
after the hooks are on, until nothing new appears.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from excise.frames import Process, Thread
from excise.names import KERNEL_STATE_ID
from excise.records import (
    MAX_PY_FRAMES,
    PROC_CHILDREN,
    PROC_DTYPE,
    PROC_EXECED,
    TASK_EXEC,
    TASK_EXIT,
    TASK_FORK,
    THREAD_CARRIER,
    THREAD_DTYPE,
    THREAD_SNAPSHOT,
    WEIGHT_ONE,
)
from excise_agent import bpf
from excise_agent.collectors.bpf import TaskRecord
from excise_agent.cpython import Interpreter, NotPython, Unsupported, detect
from excise_agent.cpython.walk import FrameRecord, stack_hash, thread_states, walk
from excise_agent.host import (
    NS_PER_TICK,
    children_of,
    list_threads,
    read_bytes,
    read_comm,
    read_ns_pid,
    read_parent,
    read_start_ns,
)
from excise_agent.interner import Interner
from excise_agent.loader import Probes, pid_namespace
from excise_agent.python_names import PythonNames
from excise_agent.snapshot import snapshot_thread

EXEC_POLL_NS = 20_000_000  # how often a new image is looked at for its interpreter
EXEC_PATIENCE_NS = 5_000_000_000  # after which it is taken to be none
LOOKS = 64  # at so many processes that have not said that they end, a round: the kernel's word may have been lost


@dataclass(slots=True)
class _Watched:
    process: Process
    leaving: bool = False  # its leader has ended; other threads may go on
    ended: bool = False
    ended_round: int = 0  # when that was seen; see Targets.forget_ended
    exec_ns: int = 0  # when it last called exec and its interpreter was not yet found; 0: not pending
    next_look_ns: int = 0
    found_ns: int = 0  # when its interpreter was last found: a fork from before then copied a gap


class Targets:
    """Owner of the `procs` and `threads` maps.

    A process that has ended leaves in two steps: the kernel's map at once, this table and whatever others keep of it
    one round (a batch) later, when its last rows were named and sent.
    """

    def __init__(self, probes: Probes, names: PythonNames, interner: Interner, children: bool) -> None:
        self._probes = probes
        self._procs = probes.maps["procs"]
        self._threads = probes.maps["threads"]
        self._names = names
        self._interner = interner
        self._children = children
        self._in_namespace = pid_namespace()["NS_INO"] != 0
        self._watched: dict[int, _Watched] = {}
        self._known_tids: dict[int, Thread] = {}
        self._chains: dict[int, tuple[int, list[FrameRecord]]] = {}
        self._kept: set[int] = set()
        self._round = self._looked = 0
        self._strays: set[int] = set()  # in the kernel's map and not here, at the last look
        self.untracked = 0  # threads that found no room
        self.untracked_procs = 0

    # -- processes

    def pids(self, alive: bool = True) -> list[int]:
        """Watched processes."""
        return [pid for pid, w in self._watched.items() if not (alive and w.ended)]

    def process(self, pid: int) -> Process | None:
        watched = self._watched.get(pid)
        return watched.process if watched else None

    def take_chains(self) -> dict[int, tuple[int, list[FrameRecord]]]:
        """Stacks that the snapshot walked, by hash: pid, frames. They are kept no longer."""
        chains, self._chains = self._chains, {}
        return chains

    def keep(self, pid: int) -> None:
        """The entry of this process stays when it has ended: the tree is its tree."""
        self._kept.add(pid)

    def add_tree(self, root: int) -> list[int]:
        """Watches `root` and its descendants, but not us, until a look at the tree finds nothing new. Those that are
        new here."""
        added: list[int] = []
        while True:
            tree = [root, *(children_of(root) if self._children else ())]
            tree = [pid for pid in tree if pid != os.getpid()]  # whoever watches may be of the tree
            new = [pid for pid in tree if pid not in self._watched]
            for pid in new:
                self._add(pid, 0 if pid == root else read_parent(pid) or 0)
            added += new
            found = sum(self._snapshot_threads(pid) for pid in tree if pid in self._watched)
            if not new and not found:
                return added

    def _add(self, pid: int, parent: int) -> None:
        process = Process(
            pid=pid,
            start_ns=read_start_ns(pid) or 0,
            parent=parent,
            comm=read_comm(pid) or "",
            ns_pid=read_ns_pid(pid) or 0,
            host_pid=0 if self._in_namespace else pid,
        )
        watched = self._watched[pid] = _Watched(process)
        self._look(watched)

    def _look(self, watched: _Watched) -> bool:
        """Looks for an interpreter and tells the kernel. Whether one was found (or known to be beyond us)."""
        pid = watched.process.pid
        found = detect(pid)
        record = np.zeros((), PROC_DTYPE)
        version, note = None, ""
        match found:
            case Interpreter():
                try:
                    self._names.add(pid, found)
                    record = np.array(found.walk_record())
                    version = found.version
                except OSError as err:
                    note = f"its memory cannot be read ({err.strerror}): no Python stacks"
            case Unsupported():
                note = found.reason
            case NotPython():
                pass
        record["flags"] = PROC_CHILDREN if self._children else 0
        self._update_proc(pid, record)
        if version is not None:
            watched.found_ns = time.monotonic_ns()
        watched.process = replace(
            watched.process, python=version, note=note, comm=read_comm(pid) or watched.process.comm
        )
        self._interner.define(process=watched.process)
        return version is not None or bool(note)

    def _update_proc(self, pid: int, record: Any) -> None:
        try:
            self._procs.update(struct.pack("<I", pid), record.tobytes())
        except bpf.BpfError as err:
            if err.errno != errno.E2BIG:
                raise
            self.untracked_procs += 1

    def on_task(self, record: TaskRecord, now_ns: int) -> None:
        """Follows what the kernel said of a process."""
        if record.event == TASK_FORK:
            parent = self._watched.get(record.parent)
            self._names.fork(record.parent, record.pid)
            process = Process(
                pid=record.pid,
                start_ns=read_start_ns(record.pid) or since_boot_ns(record.ts_ns),
                parent=record.parent,
                ns_pid=read_ns_pid(record.pid) or 0,
                host_pid=0 if self._in_namespace else record.pid,
                comm=read_comm(record.pid) or (parent.process.comm if parent else ""),
                python=parent.process.python if parent else None,
                note=parent.process.note if parent else "",
            )
            child = self._watched[record.pid] = _Watched(process)
            if parent is not None and (parent.exec_ns > 0 or record.ts_ns < parent.found_ns):
                child.exec_ns = child.next_look_ns = now_ns
            self._interner.define(process=process)
        elif record.event == TASK_EXEC:
            watched = self._watched.get(record.pid)
            if watched is not None:
                self._names.forget(record.pid)
                watched.exec_ns = now_ns
                watched.next_look_ns = now_ns
                comm = read_comm(record.pid) or watched.process.comm
                watched.process = replace(watched.process, python=None, note="", comm=comm)
                self._interner.define(process=watched.process)
        elif record.event == TASK_EXIT:
            watched = self._watched.get(record.pid)
            if watched is not None:
                watched.leaving = True

    def poll_execs(self, now_ns: int) -> None:
        """Looks again at images that are new and have no interpreter yet."""
        for watched in self._watched.values():
            if watched.ended or not watched.exec_ns or now_ns < watched.next_look_ns:
                continue
            waited = now_ns - watched.exec_ns
            watched.next_look_ns = now_ns + max(EXEC_POLL_NS, waited // 4)
            if self._look(watched) or waited > EXEC_PATIENCE_NS:
                watched.exec_ns = 0
            else:  # still starting: until found, its stacks count as a gap
                record = np.zeros((), PROC_DTYPE)
                record["flags"] = (PROC_CHILDREN if self._children else 0) | PROC_EXECED
                self._update_proc(watched.process.pid, record)

    def execs_pending(self) -> bool:
        """Whether `poll_execs` has something to look at."""
        return any(watched.exec_ns > 0 and not watched.ended for watched in self._watched.values())

    def mark_ended(self) -> None:
        """Looks who has ended and takes them out of the kernel's map. Their names stay, rows may still come."""
        alive = [w for w in self._watched.values() if not w.ended]
        silent = [w for w in alive if not w.leaving]
        at = self._looked % len(silent) if silent else 0
        self._looked = at + LOOKS
        for watched in (*(w for w in alive if w.leaving), *silent[at : at + LOOKS]):
            if has_ended(watched.process.pid) or (watched.leaving and _is_another(watched.process)):
                watched.ended, watched.ended_round = True, self._round
                self._procs.delete(struct.pack("<I", watched.process.pid))

    def settled(self) -> set[int]:
        """Processes that had ended before the last batch was drained: none of their rows is still to come."""
        return {pid for pid, w in self._watched.items() if w.ended and w.ended_round < self._round}

    def forget_ended(self) -> list[int]:
        """A round, to be called after each batch: drops those that have settled, and marks new ones.

        Returns the dropped ones: what others keep of them may go. The entries of `keep` stay.
        """
        gone = self.settled()
        for pid in gone - self._kept:
            del self._watched[pid]
        for pid in gone:
            self._names.forget(pid)
        if gone:
            self._known_tids = {tid: t for tid, t in self._known_tids.items() if t.pid not in gone}
        self.mark_ended()
        self._reconcile()
        self._round += 1
        return list(gone)

    def _reconcile(self) -> None:
        """Takes in what the kernel watches and did not say, its record being lost. Seen twice: the record may come."""
        pids, _ = self._procs.dump(PROC_DTYPE)
        strays = {pid for pid in pids.tolist() if (w := self._watched.get(pid)) is None or w.ended}
        for pid in strays & self._strays:
            if has_ended(pid):
                self._procs.delete(struct.pack("<I", pid))
            elif pid not in self._watched:
                self._add(pid, read_parent(pid) or 0)
        self._strays = strays

    # -- threads

    def _snapshot_threads(self, pid: int) -> int:
        """Puts threads that the kernel does not know yet into its map. How many were new."""
        interpreter, memory = self._names.interpreter(pid), self._names.memory(pid)
        states: dict[int, int] | None = None
        runtime = (interpreter.runtime_addr, interpreter.runtime_size) if interpreter else (0, 0)
        new = 0
        for tid in list_threads(pid):
            if tid in self._known_tids:
                continue
            seen = snapshot_thread(pid, tid, runtime)
            if seen is None:
                continue
            chain: list[FrameRecord] = []
            if interpreter and memory and seen.state != KERNEL_STATE_ID["running"]:
                if states is None:
                    states = thread_states(memory, interpreter)
                tstate = states.get(ns_tid(pid, tid))
                if tstate:
                    chain = walk(memory, interpreter, tstate, MAX_PY_FRAMES)
            now = time.monotonic_ns()
            value = np.zeros((), THREAD_DTYPE)
            value["pid"], value["state"], value["fd_class"], value["fd"] = pid, seen.state, seen.fd_class, seen.fd
            value["syscall"], value["wait_flags"], value["ip"] = seen.syscall, seen.flags, seen.ip
            value["since_ns"] = value["born_ns"] = now
            value["weight"], value["phase"] = WEIGHT_ONE, self._probes.control["phase"][0]
            value["flags"] = THREAD_SNAPSHOT | (THREAD_CARRIER if chain else 0)
            if chain and interpreter:
                value["stack"] = stack_hash(chain, interpreter.seed)
                self._chains[int(value["stack"])] = (pid, chain)
            self._probes.mark_watched(tid)
            try:
                self._threads.update(struct.pack("<I", tid), value.tobytes(), bpf.BPF_NOEXIST)
            except bpf.BpfError as err:
                if err.errno != errno.E2BIG:
                    raise
                self.untracked += 1
            self.name_thread(pid, tid, carrier=bool(chain))
            new += 1
        return new

    def snapshot_again(self, keys: list[tuple[int, int]]) -> None:
        """Threads whose state is not known any more are looked at as those that were there at the start."""
        for _, tid in keys:
            self.forget_thread(tid)
        for pid in {pid for pid, _ in keys}:
            self._snapshot_threads(pid)

    def look(self, pid: int, tid: int) -> int | None:
        """What a thread is in now (a KERNEL_STATES index); None: it has gone."""
        interpreter = self._names.interpreter(pid)
        runtime = (interpreter.runtime_addr, interpreter.runtime_size) if interpreter else (0, 0)
        seen = snapshot_thread(pid, tid, runtime)
        return seen.state if seen is not None else None

    def name_thread(self, pid: int, tid: int, carrier: bool, library: str = "") -> None:
        """Tells a thread's name, when it is new or has changed. `library`: see Thread."""
        known = self._known_tids.get(tid)
        name = read_comm(pid, tid) or (known.name if known and known.pid == pid else "")
        if not name and (process := self.process(pid)) is not None:
            name = process.comm
        if known is not None and known.pid == pid:
            carrier, library = carrier or known.carrier, library or known.library
        thread = Thread(tid, pid, name, carrier, library)
        if thread != known:
            self._known_tids[tid] = thread
            self._interner.define(thread=thread)

    def note_host_pid(self, pid: int, host_pid: int) -> None:
        """The kernel's own number of a process, once a probe has seen it."""
        watched = self._watched.get(pid)
        if watched is not None and host_pid and watched.process.host_pid != host_pid:
            watched.process = replace(watched.process, host_pid=host_pid)
            self._interner.define(process=watched.process)

    def library(self, pid: int, tid: int) -> str:
        """Whose pool a thread was found to belong to; "" not known."""
        known = self._known_tids.get(tid)
        return known.library if known is not None and known.pid == pid else ""

    def knows(self, pid: int, tid: int) -> bool:
        known = self._known_tids.get(tid)
        return known is not None and known.pid == pid

    def forget_thread(self, tid: int) -> None:
        """A dead thread leaves the kernel's map."""
        self._threads.delete(struct.pack("<I", tid))
        self._known_tids.pop(tid, None)


def since_boot_ns(monotonic_ns: int) -> int:
    """The moment as /proc/PID/stat would tell it: on CLOCK_BOOTTIME, to a clock tick."""
    asleep_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
    return (monotonic_ns + asleep_ns) // NS_PER_TICK * NS_PER_TICK


def has_ended(pid: int) -> bool:
    """Whether no thread of the process is left: it may still be a zombie, and a leader may end before its threads."""
    fields = (read_bytes(f"/proc/{pid}/stat", 512) or b"").rpartition(b")")[2].split()
    return not fields or (fields[0] in (b"Z", b"X") and len(list_threads(pid)) <= 1)


def _is_another(process: Process) -> bool:
    """Whether the number is another process's by now."""
    start_ns = read_start_ns(process.pid)
    return start_ns is not None and process.start_ns > 0 and start_ns - process.start_ns > 2 * NS_PER_TICK


def ns_tid(pid: int, tid: int) -> int:
    """The thread's number in its own pid namespace, which is what its interpreter noted."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path(f"/proc/{pid}/task/{tid}/status").read_text(errors="replace").splitlines():
            if line.startswith("NSpid:"):
                return int(line.split()[-1])
    return tid
