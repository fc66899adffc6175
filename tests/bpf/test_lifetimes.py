"""A process that has ended leaves the kernel's map at once, and the agent's tables one batch later."""

from __future__ import annotations

import struct
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from excise.batch import Totals
from excise.names import KERNEL_STATE_ID
from excise.records import PROC_DTYPE, TASK_EXIT, TASK_FORK, THREAD_DTYPE
from excise_agent.attach import Options, Watch
from excise_agent.collectors.bpf import TaskRecord
from excise_agent.interner import Interner
from excise_agent.loader import Probes, Sizes
from excise_agent.python_names import PythonNames
from excise_agent.targets import Targets

from .conftest import Seen

NOBODY = 1 << 22  # the kernel's largest pid is below
SLEEP = ["sleep", "1000"]


@dataclass
class Tree:
    """A watched process with its child; the probes are loaded and not attached, so that nothing comes by itself."""

    targets: Targets
    probes: Probes
    root: subprocess.Popen[bytes]
    child: subprocess.Popen[bytes]

    def end_child(self) -> None:
        self.child.kill()
        self.child.wait()

    def in_kernel(self) -> set[int]:
        return set(self.probes.maps["procs"].dump(PROC_DTYPE)[0].tolist())

    def task(self, event: int, pid: int) -> None:
        self.targets.on_task(TaskRecord(event, pid, pid, self.root.pid, time.monotonic_ns()), time.monotonic_ns())


@pytest.fixture
def tree() -> Iterator[Tree]:
    probes = Probes.load(Sizes())
    root, child = (subprocess.Popen(SLEEP) for _ in range(2))
    try:
        targets = Targets(probes, PythonNames(), Interner(), children=True)
        targets.add_tree(root.pid)
        targets.keep(root.pid)
        made = Tree(targets, probes, root, child)
        probes.maps["procs"].update(struct.pack("<I", child.pid), bytes(PROC_DTYPE.itemsize))  # as the kernel's hook
        made.task(TASK_FORK, child.pid)
        yield made
    finally:
        for process in (root, child):
            process.kill()
            process.wait()
        probes.close()


@pytest.mark.parametrize("told", [True, False], ids=["told", "record_lost"])
def test_an_ended_process_stays_for_one_round_more(tree: Tree, told: bool) -> None:
    assert tree.targets.forget_ended() == []
    tree.end_child()
    if told:
        tree.task(TASK_EXIT, tree.child.pid)
    assert tree.targets.forget_ended() == []  # its last rows are still to be drained and sent
    assert tree.in_kernel() == {tree.root.pid}
    assert tree.targets.pids() == [tree.root.pid] and tree.targets.process(tree.child.pid) is not None
    assert tree.targets.settled() == {tree.child.pid}
    assert tree.targets.forget_ended() == [tree.child.pid]
    assert tree.targets.process(tree.child.pid) is None and tree.targets.settled() == set()


def test_an_end_that_is_seen_between_two_batches_waits_for_the_second(tree: Tree) -> None:
    tree.end_child()
    tree.targets.mark_ended()
    assert tree.in_kernel() == {tree.root.pid} and tree.targets.settled() == set()
    assert tree.targets.forget_ended() == []
    assert tree.targets.forget_ended() == [tree.child.pid]


def test_a_number_that_is_used_again_at_once_is_another_process(tree: Tree) -> None:
    tree.end_child()
    tree.targets.mark_ended()
    tree.task(TASK_FORK, tree.child.pid)
    assert tree.targets.settled() == set() and tree.targets.process(tree.child.pid) is not None


def test_threads_leave_with_their_process(tree: Tree) -> None:
    tree.targets.name_thread(tree.child.pid, tree.child.pid, carrier=False)
    tree.targets.name_thread(tree.child.pid, NOBODY, carrier=False)  # whose end the kernel never told
    tree.end_child()
    for _ in range(2):
        tree.targets.forget_ended()
    assert not tree.targets.knows(tree.child.pid, NOBODY) and not tree.targets.knows(tree.child.pid, tree.child.pid)
    assert tree.targets.knows(tree.root.pid, tree.root.pid)


def test_the_first_process_keeps_its_name_after_its_end(tree: Tree) -> None:
    tree.root.kill()
    tree.root.wait()
    for _ in range(3):
        tree.targets.forget_ended()
    assert tree.targets.pids() == [tree.child.pid]
    assert tree.targets.pids(alive=False) == [tree.root.pid, tree.child.pid]


def test_a_process_whose_fork_was_not_told_is_taken_in_or_out_of_the_kernels_map(tree: Tree) -> None:
    with subprocess.Popen(SLEEP) as unknown:
        try:
            for pid in (unknown.pid, NOBODY):
                tree.probes.maps["procs"].update(struct.pack("<I", pid), bytes(PROC_DTYPE.itemsize))
            tree.targets.forget_ended()
            assert tree.targets.process(unknown.pid) is None  # the record may be on its way
            tree.targets.forget_ended()
            process = tree.targets.process(unknown.pid)
            assert process is not None and process.comm == "sleep"
            assert tree.in_kernel() == {tree.root.pid, tree.child.pid, unknown.pid}
        finally:
            unknown.kill()


def test_a_thread_whose_end_was_not_traced_is_counted_and_leaves_the_kernels_map() -> None:
    seen = Seen()
    root = subprocess.Popen(SLEEP)
    watch = Watch(Options(pid=root.pid, duration_s=5.0, budget_ratio=None), seen.take)
    try:
        watch.start()
        assert watch._probes is not None
        threads = watch._probes.maps["threads"]
        now = time.monotonic_ns()
        watch._on_task(TaskRecord(TASK_FORK, NOBODY, NOBODY, root.pid, now))
        value = np.zeros((), THREAD_DTYPE)
        value["pid"], value["since_ns"], value["born_ns"] = NOBODY, now, now
        value["state"] = KERNEL_STATE_ID["sleep"]
        threads.update(struct.pack("<I", NOBODY), value.tobytes())
        watch.run()
        assert threads.lookup(struct.pack("<I", NOBODY)) is None
    finally:
        watch.close()
        root.kill()
        root.wait()
    rows = [int(r["tid"]) for item in seen.items if isinstance(item, Totals) for r in item.rows]
    assert NOBODY in rows
