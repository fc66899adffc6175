"""Several workloads under one watch: real processes, real probes."""

from __future__ import annotations

import io
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from excise.batch import Item, Totals
from excise.ledger.build import build_report
from excise.recording import Recording
from excise.session import Session
from excise.stages import Rules
from excise.summary import Summary
from excise.workload import Workload
from excise_agent.daemon.observed import Observed
from excise_agent.daemon.taps import Wish
from excise_agent.daemon.watching import Settings, Watching
from excise_agent.discovery.changes import Found
from excise_agent.host import read_start_ns

BUSY = "print(flush=True)\nimport time\nwhile True:\n    sum(range(20000)); time.sleep(0.002)\n"
FORKS = "import os, sys\n" + "os.fork()\n" + BUSY
WINDOW_S = 1.0
DEADLINE_S = 60.0


def spawn(code: str = BUSY) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, process_group=0)
    assert process.stdout is not None
    process.stdout.readline()  # it runs
    return process


def found(process: subprocess.Popen[bytes], name: str) -> Found:
    return Found(process.pid, read_start_ns(process.pid) or 0, Workload(name, "rule"), "a test")


class Host:
    """What a watching of workloads gave."""

    def __init__(self, most: int = 64) -> None:
        self.summaries: dict[str, list[Summary]] = {}
        self.ended: list[str] = []
        self.notices: list[str] = []
        settings = Settings(99.0, None, WINDOW_S, 50, Rules.load([]), most)
        self.spoiled: list[ValueError] = []
        self.watching = Watching(settings, self._emit, self._end, self._spoil, self.notices.append)
        self.processes: list[subprocess.Popen[bytes]] = []

    def _emit(self, observed: Observed, summary: Summary) -> None:
        self.summaries.setdefault(observed.workload.name, []).append(summary)

    def _spoil(self, observed: Observed, error: ValueError) -> None:
        self.spoiled.append(error)

    def _end(self, observed: Observed) -> None:
        self.ended.append(observed.workload.name)

    def spawn(self, code: str = BUSY) -> subprocess.Popen[bytes]:
        self.processes.append(spawn(code))
        return self.processes[-1]

    def until(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not done():
            assert time.monotonic() < deadline, self.notices
            wait_s = self.watching.wait_s()
            time.sleep(0.05 if wait_s is None else wait_s)
            self.watching.turn()

    def end(self) -> None:
        """Of all processes, and their children."""
        for process in self.processes:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def windows(self, name: str) -> int:
        return len(self.summaries.get(name, ()))


@pytest.fixture
def host() -> Iterator[Host]:
    made = Host()
    try:
        yield made
    finally:
        try:
            made.watching.stop()
        finally:
            made.end()
    assert not made.spoiled


def pids(summary: Summary) -> set[int]:
    return {p.pid for p in summary.processes.values()}


def closes(summary: Summary) -> bool:
    """Each carrier's time is as long as the window, for those that lived through it."""
    (spans,) = summary.spans.values()
    return summary.observed_ns == sum(s.end_mono_ns - s.start_mono_ns for s in spans)


def test_each_workload_has_summaries_of_its_own(host: Host) -> None:
    one, two = host.spawn(), host.spawn()
    host.watching.take([found(one, "one"), found(two, "two")])
    host.until(lambda: min(host.windows(name) for name in ("one", "two")) >= 3)
    host.until(lambda: all(sum(s.quality["samples"] or 0 for s in host.summaries[n]) > 5 for n in ("one", "two")))
    for name, process in (("one", one), ("two", two)):
        for summary in host.summaries[name]:
            assert pids(summary) == {process.pid} and closes(summary)
            assert abs(summary.total_ns() - summary.observed_ns) < 1_000_000  # one thread, all the time
            assert summary.kpis["cpu_ns"] is not None and summary.cost["agent_ns"] is not None
        spans = [next(iter(s.spans.values()))[0] for s in host.summaries[name]]
        assert all(a.end_mono_ns == b.start_mono_ns for a, b in itertools.pairwise(spans))


def test_a_process_that_comes_later_brings_nothing_of_its_past(host: Host) -> None:
    one, two, three = (host.spawn() for _ in range(3))
    host.watching.take([found(one, "one")])
    host.until(lambda: host.windows("one") >= 1)
    host.watching.take([found(two, "two"), found(three, "one")])
    host.until(lambda: host.windows("two") >= 2 and host.windows("one") >= 4)
    assert pids(host.summaries["one"][-1]) == {one.pid, three.pid}
    for summary in (*host.summaries["one"], *host.summaries["two"]):
        assert summary.total_ns() <= summary.observed_ns * len(pids(summary)) + 1_000_000
        assert (summary.kpis["cpu_ns"] or 0) <= summary.observed_ns * 2 * len(pids(summary)) + 40_000_000
    spans = [s for summary in host.summaries["one"] for s in next(iter(summary.spans.values()))]
    assert all(a.end_mono_ns == b.start_mono_ns for a, b in itertools.pairwise(spans))


def test_children_belong_to_the_workload_of_their_parent(host: Host) -> None:
    parent, other = host.spawn(FORKS), host.spawn()
    host.watching.take([found(parent, "tree"), found(other, "other")])
    host.until(lambda: host.windows("tree") >= 2)
    assert len(pids(host.summaries["tree"][-1])) == 2
    assert pids(host.summaries["other"][-1]) == {other.pid}


def test_a_workload_that_ends_gives_its_last_window_and_the_probes_go_with_the_last_one(host: Host) -> None:
    one, two = host.spawn(), host.spawn()
    host.watching.take([found(one, "one"), found(two, "two")])
    host.until(lambda: host.windows("one") >= 1)
    one.kill()
    one.wait()
    host.until(lambda: host.ended == ["one"])
    windows = host.windows("two")
    host.until(lambda: host.windows("two") > windows)
    two.kill()
    two.wait()
    host.until(lambda: host.watching.watch is None)
    assert host.ended == ["one", "two"] and host.watching.observed == () and host.watching.pids() == set()


def test_more_workloads_than_allowed_are_refused_once_and_by_name() -> None:
    host = Host(most=1)
    try:
        one, two = host.spawn(), host.spawn()
        for _ in range(2):
            host.watching.take([found(one, "one"), found(two, "two")])
        assert [o.workload.name for o in host.watching.observed] == ["one"]
        assert len([n for n in host.notices if n.startswith("two is not watched")]) == 1
    finally:
        host.watching.stop()
        host.end()


class Pipe:
    def __init__(self) -> None:
        self.content = io.BytesIO()
        self.closed = self.ended = self.stop_asked = False

    def write(self, chunk: bytes) -> bool:
        self.content.write(chunk)
        return True

    def close(self, reason: str = "") -> None:
        self.ended = True


def test_a_part_of_the_stream_is_a_recording_of_its_own(host: Host) -> None:
    one, two = host.spawn(), host.spawn()
    host.watching.take([found(one, "one"), found(two, "two")])
    host.until(lambda: host.windows("one") >= 1)
    pipe = Pipe()
    assert host.watching.tap(Wish(one.pid, 1.5, 199.0, None), pipe)
    assert host.watching.watch is not None and host.watching.watch.rate_hz == 199.0
    host.until(lambda: pipe.ended)
    assert host.watching.watch.rate_hz == 99.0 and host.watching.taps == 0
    pipe.content.seek(0)
    session = Session(Rules.load([]))
    for item in Recording(pipe.content).items():
        session.feed(item)
    report = build_report(session)
    assert {p.pid for p in report.processes} == {one.pid} and report.target["pid"] == one.pid
    assert report.end_reason == "duration" and report.rate_hz == 199.0
    assert 1.4e9 < report.duration_ns < 10e9 and abs(report.total_ns() - report.duration_ns) < 1_000_000
    assert report.quality["samples"] > 10 and any(s.frames for s in report.stacks)


def test_a_process_that_nobody_watches_cannot_be_tapped(host: Host) -> None:
    one = host.spawn()
    assert not host.watching.tap(Wish(one.pid, 1.0, 99.0, None), Pipe())


def test_who_does_not_listen_any_more_is_let_go(host: Host) -> None:
    one = host.spawn()
    host.watching.take([found(one, "one")])
    pipe = Pipe()
    assert host.watching.tap(Wish(one.pid, 3600.0, 99.0, 0.01), pipe)
    pipe.closed = True
    host.until(lambda: pipe.ended)
    assert host.watching.taps == 0


def test_a_child_that_is_to_be_ignored_is_let_go_and_its_parent_goes_on(host: Host) -> None:
    parent = host.spawn(FORKS)
    host.watching.take([found(parent, "tree")])
    host.until(lambda: host.windows("tree") >= 1)
    (child,) = pids(host.summaries["tree"][-1]) - {parent.pid}
    host.watching.let_go({child})
    windows = host.windows("tree")
    host.until(lambda: host.windows("tree") >= windows + 2)
    assert pids(host.summaries["tree"][-1]) == {parent.pid}
    host.watching.let_go({child})  # again, at every look: nothing ends for it
    host.watching.let_go({parent.pid})
    assert host.ended == ["tree"] and host.watching.watch is None


def test_a_window_that_contradicts_itself_is_lost_alone(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = host.spawn(), host.spawn()
    host.watching.take([found(one, "one"), found(two, "two")])
    host.until(lambda: min(host.windows("one"), host.windows("two")) >= 1)
    observed = next(o for o in host.watching.observed if o.workload.name == "one")

    feed = observed.summarizer.feed

    def contradict(item: Item) -> None:
        feed(item)
        if isinstance(item, Totals):
            monkeypatch.undo()
            raise ValueError("less than nothing")

    monkeypatch.setattr(observed.summarizer, "feed", contradict)
    windows = host.windows("one"), host.windows("two")
    host.until(lambda: host.windows("one") > windows[0] and host.windows("two") > windows[1])
    assert [str(error) for error in host.spoiled] == ["less than nothing"]
    host.spoiled.clear()
