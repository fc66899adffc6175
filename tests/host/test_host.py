from __future__ import annotations

import os
import subprocess
import threading
import time

import pytest
from fake_proc import FakeProc

from excise_agent import host
from excise_agent.host import (
    children_of,
    list_threads,
    process_tree,
    read_allowed_cpus,
    read_comm,
    read_cpu_ns,
    read_disk_bytes,
    read_ns_pid,
    read_pss_bytes,
    read_rss_bytes,
    read_schedstat,
    read_start_ns,
)

GONE = 2**22 + 1


def test_stat_is_read_behind_a_name_with_brackets(fake: FakeProc) -> None:
    fake.process(7, 1, comm="a) S 99 (b")
    assert read_start_ns(7, proc=fake.root) == 1103 * host.NS_PER_TICK
    assert read_cpu_ns(7, proc=fake.root) == 12 * host.NS_PER_TICK
    assert read_cpu_ns(7, proc=fake.root, children=True) == 17 * host.NS_PER_TICK
    assert host.read_parent(7, fake.root) == 1


def test_single_facts_of_a_process(fake: FakeProc) -> None:
    fake.process(7, 1)
    assert read_allowed_cpus(7, fake.root) == {0, 1, 2, 5, 7, 8}
    assert read_ns_pid(7, fake.root) == 3
    assert read_rss_bytes(7, fake.root) == 17 * host.PAGE_BYTES
    assert read_disk_bytes(7, fake.root) == (7 * 4096, 8192)


def test_name_of_a_thread_is_made_printable(fake: FakeProc) -> None:
    fake.write("7/task/8/comm", b"evil\x1b[2J\xff\n")
    assert read_comm(7, 8, fake.root) == "evil?[2J\N{REPLACEMENT CHARACTER}"


def test_tree_has_all_descendants_and_nobody_else(fake: FakeProc) -> None:
    for pid, parent in ((1, 0), (10, 1), (30, 10), (20, 30), (31, 10), (40, 1), (21, 20)):
        fake.process(pid, parent)
    assert process_tree(10, fake.root) == [10, 30, 31, 20, 21]
    assert children_of(40, fake.root) == []
    assert process_tree(77, fake.root) == []


def test_tree_survives_a_cycle_of_reused_numbers(fake: FakeProc) -> None:
    fake.process(10, 11)
    fake.process(11, 10)
    assert process_tree(10, fake.root) == [10, 11]


@pytest.mark.parametrize("content", ["", "7 (x", "7 (x) S", "nonsense", "7 (x) " + "a " * 40])
def test_broken_stat_is_not_measured(fake: FakeProc, content: str) -> None:
    fake.write("7/stat", content)
    assert read_start_ns(7, proc=fake.root) is None
    assert read_cpu_ns(7, proc=fake.root) is None


def test_process_that_is_gone_is_not_measured() -> None:
    assert read_start_ns(GONE) is read_cpu_ns(GONE) is read_comm(GONE) is read_allowed_cpus(GONE) is None
    assert read_rss_bytes(GONE) is read_pss_bytes(GONE) is read_disk_bytes(GONE) is None
    assert read_schedstat(GONE, GONE) is None
    assert list_threads(GONE) == []


def test_online_cpus_and_boot_id(fake: FakeProc) -> None:
    fake.write("stat", "cpu  1 2 3\ncpu0 1 2\ncpu1 1 2\ncpu10 1 1\nintr 5\n")
    fake.write("sys/kernel/random/boot_id", "6e5c\n")
    assert host.count_online_cpus(fake.root) == 3
    assert host.read_boot_id(fake.root) == "6e5c"
    assert host.read_boot_id(fake.root / "none") == ""


def test_live_facts_agree_with_what_we_know_of_ourselves() -> None:
    pid = os.getpid()
    assert read_allowed_cpus(pid) == os.sched_getaffinity(pid)
    assert host.count_online_cpus() == os.cpu_count()
    assert host.read_parent(pid) == os.getppid()
    cpu_ns, own_ns = read_cpu_ns(pid), time.process_time_ns()
    assert cpu_ns is not None
    assert abs(cpu_ns - own_ns) < 100_000_000
    start_ns = read_start_ns(pid)
    assert start_ns is not None
    assert 0 < time.clock_gettime_ns(time.CLOCK_BOOTTIME) - start_ns < 86_400_000_000_000
    rss, pss = read_rss_bytes(pid), read_pss_bytes(pid)
    assert rss is not None
    assert pss is not None
    assert 0 < pss <= rss * 1.1


def test_live_thread_is_listed_with_the_time_it_ran() -> None:
    tid, stop, ready = [0], threading.Event(), threading.Event()

    def spin() -> None:
        tid[0] = threading.get_native_id()
        while time.thread_time_ns() < 53_000_000:
            pass
        ready.set()
        stop.wait()

    thread = threading.Thread(target=spin)
    thread.start()
    ready.wait()
    assert tid[0] in list_threads(os.getpid())
    times = read_schedstat(os.getpid(), tid[0])
    assert times is not None
    assert 53_000_000 <= times[0] < 150_000_000
    assert times[1] >= 0
    stop.set()
    thread.join()


def test_live_children_are_in_the_tree() -> None:
    child = subprocess.Popen(["sh", "-c", "sleep 30 & echo; wait"], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    tree = children_of(os.getpid())
    assert child.pid in tree
    below = children_of(child.pid)
    assert len(below) == 1
    assert set(below) < set(tree)
    os.kill(below[0], 15)
    child.communicate(timeout=10)
    assert child.pid not in children_of(os.getpid())
