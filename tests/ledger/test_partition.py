"""A stream taken apart: each part is whole, and together they are the stream."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from excise.batch import LENGTH_DTYPE, Batch, Cost, Definitions, Header, HostSample, Item, Totals
from excise.frames import Frame, Process, Thread
from excise.partition import Part, Partition
from ledger.streams import HEADER, SECOND, slices, totals

WHO = (100, 200, 300)


def part(partition: Partition, *pids: int, **more: object) -> tuple[Part, list[Item]]:
    seen: list[Item] = []
    made = Part(set(pids), seen.append, {"pid": pids[0]}, {"cpus": 2}, **more)  # type: ignore[arg-type]
    partition.add(made, SECOND)
    return made, seen


def begun(*processes: Process, window_ns: int = 0) -> Partition:
    partition = Partition(window_ns)
    partition.feed(HEADER)
    partition.feed(Definitions([Frame("python", "a.py", "f")], [(0,)], list(processes), []))
    return partition


def ended(start: int = SECOND, end: int = 2 * SECOND, *pids: int) -> Totals:
    return Totals(start, end, totals(*({"pid": p, "tid": p, "running": 10, "sleep": 5} for p in pids)))


def of(kind: type, seen: list[Item]) -> list[Item]:
    return [item for item in seen if isinstance(item, kind)]


ROWS = st.lists(
    st.tuples(st.sampled_from(WHO), st.integers(0, 10**9), st.lists(st.integers(-1, 500), max_size=3)), max_size=30
)


@given(rows=ROWS, lost=st.integers(0, 10**6), costs=st.integers(0, 10**9), running=st.tuples(*[st.integers(0, 99)] * 3))
def test_parts_add_up_to_the_whole(rows: list, lost: int, costs: int, running: tuple[int, ...]) -> None:
    partition = begun(*(Process(pid, 1, "python") for pid in WHO))
    streams = [part(partition, pid)[1] for pid in WHO]
    lengths = np.array([(i, b, 256) for i, row in enumerate(rows) for b in row[2]], LENGTH_DTYPE)
    rowed = slices(*({"pid": pid, "tid": pid, "weight_ns": ns} for pid, ns, _ in rows))
    partition.feed(Batch(SECOND, 2 * SECOND, rowed, {"ring_full": lost}, lengths))
    partition.feed(Cost(SECOND, 2 * SECOND, {"agent_ns": costs, "bpf_ns": 7, "steps_ns": {"everything": SECOND}}))
    sums = totals(*({"pid": p, "tid": p, "running": ns} for p, ns in zip(WHO, running, strict=True)))
    partition.feed(Totals(SECOND, 2 * SECOND, sums))
    nothing = Batch(SECOND, 2 * SECOND, slices())
    batches = [(of(Batch, seen) or [nothing])[0] for seen in streams]
    assert sum(b.lost.get("ring_full", 0) for b in batches) == lost
    for pid, batch in zip(WHO, batches, strict=True):
        assert batch.slices["weight_ns"].tolist() == [ns for p, ns, _ in rows if p == pid]
        mine = [row for row in rows if row[0] == pid]
        assert [(int(r["row"]), int(r["bucket"])) for r in batch.lengths] == [
            (i, b) for i, row in enumerate(mine) for b in row[2]
        ]
    shares = [of(Cost, seen)[0].values for seen in streams]
    assert sum(s.get("agent_ns", 0) for s in shares) == costs and sum(s.get("bpf_ns", 0) for s in shares) == 7
    assert [s["target_cpu_ns"] for s in shares] == list(running)
    assert all(s["steps_ns"] == {"everything": SECOND} for s in shares)
    assert [of(Totals, seen)[0].rows["pid"].tolist() for seen in streams] == [[p] for p in WHO]


def test_a_part_that_comes_late_is_told_what_was_defined() -> None:
    partition = begun(Process(100, 1, "python"), Process(200, 2, "python"))
    partition.feed(Definitions([Frame("python", "b.py", "g")], [(1,), (1, 0)], [], [Thread(200, 200, "t", True)]))
    _, seen = part(partition, 200)
    header, told = seen
    assert isinstance(header, Header) and header.target["pid"] == 200 and header.target["collector"] == "bpf"
    assert isinstance(told, Definitions)
    assert [f.name for f in told.frames] == ["f", "g"] and told.stacks == [(0,), (1,), (1, 0)]
    assert [p.pid for p in told.processes] == [200] and [t.tid for t in told.threads] == [200]


def test_children_join_the_part_of_their_parent_and_no_other() -> None:
    partition = begun(Process(100, 1, "python"), Process(200, 2, "python"))
    first, _ = part(partition, 100)
    second, _ = part(partition, 200)
    partition.feed(Definitions([], [], [Process(101, 3, "worker", parent=100), Process(102, 4, "w", parent=101)], []))
    assert first.pids == {100, 101, 102} and second.pids == {200}


def test_a_child_that_is_named_before_its_parent_joins_too() -> None:
    partition = begun(Process(100, 1, "python"))
    only, _ = part(partition, 100)
    whole, _ = part(partition, 100, exclusive=False)
    alone, _ = part(partition, 100, exclusive=False, children=False)
    partition.feed(Definitions([], [], [Process(102, 4, "w", parent=101), Process(101, 3, "worker", parent=100)], []))
    assert only.pids == whole.pids == {100, 101, 102} and alone.pids == {100}


def test_a_process_moves_from_one_part_to_another_and_stays_in_those_that_overlap() -> None:
    partition = begun(Process(100, 1, "python"), Process(200, 2, "python"))
    first, _ = part(partition, 100)
    tap, _ = part(partition, 100, 200, exclusive=False)
    second, _ = part(partition, 200)
    partition.move({100}, second)
    assert first.pids == set() and second.pids == {100, 200} and tap.pids == {100, 200}


def test_a_number_that_is_used_again_changes_sides() -> None:
    partition = begun(Process(100, 1, "python"), Process(200, 2, "python"))
    first, _ = part(partition, 100)
    second, _ = part(partition, 200)
    partition.feed(Definitions([], [], [Process(101, 3, "worker", parent=100)], []))
    partition.feed(Definitions([], [], [Process(101, 9, "worker", parent=200)], []))
    assert first.pids == {100} and second.pids == {200, 101}


def test_a_process_without_threads_leaves_after_two_windows() -> None:
    partition = begun(Process(100, 1, "python"), Process(200, 2, "python"))
    only, _ = part(partition, 100, 200)
    partition.feed(ended(1, 2, 100))
    assert only.pids == {100, 200}
    partition.feed(ended(2, 3, 100, 200))
    partition.feed(ended(3, 4, 100))
    assert only.pids == {100, 200}
    partition.feed(ended(4, 5, 100))
    assert only.pids == {100} and partition.process(200) is None


def test_each_part_has_its_own_look_at_the_host() -> None:
    partition = begun(Process(100, 1, "python"), Process(200, 2, "python"))

    def sample(pids: list[int], start_ns: int, end_ns: int) -> HostSample:
        return HostSample(start_ns, end_ns, {"rss_bytes": sum(pids)})

    _, one = part(partition, 100, sample=sample)
    _, two = part(partition, 200)
    partition.feed(HostSample(1, 2, {"rss_bytes": 5}))
    partition.feed(ended(1, 2, 100, 200))
    assert [s.values for s in of(HostSample, one)] == [{"rss_bytes": 100}] and not of(HostSample, two)


def test_what_belongs_to_no_part_is_let_go() -> None:
    partition = begun(Process(100, 1, "python"))
    made, seen = part(partition, 100)
    partition.feed(Batch(1, 2, slices({"pid": 999, "tid": 999})))
    assert not of(Batch, seen)
    partition.remove(made)
    partition.feed(Batch(2, 3, slices(), {"ring_full": 5}))
    assert partition.lost == {"ring_full": 5}  # nobody's, and counted
    partition.feed(replace(HEADER, rate_hz=19.0))
    assert seen[-1] is not partition.header and partition.parts == ()


def test_a_window_of_a_part_goes_on_where_only_the_streams_ends() -> None:
    partition = begun(Process(100, 1, "python"), Process(200, 2, "python"), window_ns=10 * SECOND)
    wall = HEADER.start_wall_ns - HEADER.start_mono_ns
    first = 10 * SECOND - wall % (10 * SECOND) + SECOND  # monotonic, a second into a window
    _, one = part(partition, 100)
    _, tap = part(partition, 100, exclusive=False)
    for start in (first, first + SECOND):
        partition.feed(Cost(start, start + SECOND, {"agent_ns": 6}))
        partition.feed(ended(start, start + SECOND, 100, 200))
    late, two = part(partition, 200)
    assert not of(Totals, one) and not of(Cost, one) and len(of(Totals, tap)) == 2
    partition.feed(ended(first + 2 * SECOND, first + 9 * SECOND, 100, 200))
    (whole,) = of(Totals, one)
    assert (whole.start_ns, whole.end_ns) == (first, first + 9 * SECOND) and whole.rows["pid"].tolist() == [100] * 3
    assert sum(c.values["agent_ns"] for c in of(Cost, one)) == 12  # before the other part came
    assert sum(c.values["agent_ns"] for c in of(Cost, tap)) == 12
    assert [t.start_ns for t in of(Totals, two)] == [first + 2 * SECOND]
    partition.feed(ended(first + 9 * SECOND, first + 10 * SECOND, 100, 200))
    assert len(of(Totals, two)) == 1
    partition.remove(late)
    assert [t.start_ns for t in of(Totals, two)] == [first + 2 * SECOND, first + 9 * SECOND]
