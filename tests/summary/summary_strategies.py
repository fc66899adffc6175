"""Any summary, valid by construction; small pools of names and ids, so that two of them have much in common."""

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from excise.frames import Frame
from excise.names import KERNEL_STATES, STATES
from excise.summary import (
    CLASS_NAMES,
    Cell,
    CellKey,
    Helper,
    HelperKey,
    Histogram,
    LengthKey,
    Program,
    Source,
    Span,
    StackKey,
    StackTime,
    Summary,
    TaxError,
)
from excise.summary._merge import join_spans
from excise.summary.ids import capabilities_id, clean, frame_id, process_id, source_id, stack_id
from excise.summary.numbers import TABLES

UNHURRIED = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""Machines may be busy: how long an example takes says nothing."""

TIMES = st.one_of(st.integers(0, 300), st.integers(0, 1 << 40), st.integers(0, 1 << 100))
COUNTS = st.one_of(st.integers(0, 300), st.integers(0, 1 << 66))
UNKNOWN = st.one_of(st.none(), COUNTS)
TEXT = st.one_of(st.sampled_from(["", "a", "lib.so", "ring_full"]), st.text(max_size=8).map(clean))
CLASSES = st.sampled_from([*CLASS_NAMES[:4], "unattributed.lost", "idle", "newer.class"])
WAITS = st.sampled_from([*STATES[:3], STATES[-1], "newer_state"])
HISTOGRAMS = st.builds(Histogram, st.integers(0, 8), st.dictionaries(
    st.integers(-1, 127), st.integers(1, 1 << 40), min_size=1, max_size=8))
FRAMES = st.builds(Frame, st.sampled_from(["python", "native", "kernel"]), TEXT, TEXT, st.integers(0, 1000))


@st.composite
def spans(draw: Any) -> tuple[Span, ...]:
    out = []
    for _ in range(draw(st.integers(1, 3))):
        start, length = draw(st.integers(0, 30)), draw(st.integers(1, 9))
        mono = draw(st.integers(0, 30))
        out.append(Span(start, start + length, mono, mono + draw(st.integers(0, 9))))
    return join_spans(out)


@st.composite
def summaries(draw: Any) -> Summary:
    sources, capabilities, mine = {}, {}, {}
    for boot in draw(st.lists(st.sampled_from(["host1", "host2"]), unique=True)):
        names = tuple(sorted(draw(st.sets(TEXT, max_size=3))))
        source = Source(boot, "1.0", capabilities_id(names), "bpf", draw(st.sampled_from([0, 99_000])))
        number = source_id(source.boot_id, source.version, source.capabilities, source.collector, source.rate_millihz)
        sources[number], capabilities[source.capabilities], mine[number] = source, names, draw(spans())
    processes = {}
    for boot, pid in draw(st.lists(st.tuples(st.sampled_from(["host1", "host2"]), st.integers(1, 3)), unique=True)):
        processes[process_id(boot, pid, 7)] = Program(
            boot, pid, 7, draw(TEXT), draw(st.sampled_from([None, "3.11.7", "3.12.1"])), draw(st.integers(0, 9)),
            draw(TEXT))
    keyed: dict[str, Any] = {"cells": {}, "helpers": {}, "lengths": {}, "stacks": {}, "stack_frames": {}, "frames": {}}
    for process in processes:
        _fill(draw, process, keyed)
    numbers = {section: draw(st.dictionaries(st.sampled_from([n.name for n in table]), UNKNOWN, max_size=4))
               for section, table in TABLES.items()}
    error = st.builds(TaxError, COUNTS, COUNTS, st.integers(-(1 << 60), 1 << 60))
    return Summary(
        windows=draw(st.integers(0, 9)), observed_ns=draw(TIMES), sources=sources, spans=mine,
        roots=frozenset(draw(st.sets(st.sampled_from(sorted(processes))))) if processes else frozenset(),
        capabilities=capabilities, processes=processes, **keyed, **numbers,
        stage_variances_us2=draw(st.dictionaries(st.sampled_from(["compute", "idle", "newer"]), UNKNOWN)),
        tax_error=draw(st.one_of(st.none(), error)), lost=draw(st.dictionaries(TEXT, COUNTS, max_size=3)),
        steps=draw(st.dictionaries(TEXT, COUNTS, max_size=3)))


def _fill(draw: Any, process: int, keyed: dict[str, Any]) -> None:
    for cls, state in draw(st.lists(st.tuples(CLASSES, WAITS), unique=True, max_size=3)):
        total = draw(TIMES)
        for frames in draw(st.lists(st.lists(FRAMES, max_size=3), max_size=2, unique_by=tuple)):
            ids = [frame_id(frame) for frame in frames]
            keyed["frames"].update(zip(ids, frames, strict=True))
            number = stack_id(ids)
            keyed["stack_frames"][number] = tuple(ids)
            time = StackTime(draw(TIMES), draw(COUNTS))
            keyed["stacks"][StackKey(process, cls, state, number)] = time
            total += time.ns
        keyed["cells"][CellKey(process, cls, state)] = Cell(total, draw(UNKNOWN))
    for library in draw(st.lists(TEXT, unique=True, max_size=2)):
        times = draw(st.dictionaries(st.sampled_from([KERNEL_STATES[0], KERNEL_STATES[4], "newer"]), TIMES))
        keyed["helpers"][HelperKey(process, library)] = Helper(draw(st.integers(0, 99)), times)
    for cls, state in draw(st.lists(st.tuples(CLASSES, st.one_of(st.just(""), WAITS)), unique=True, max_size=2)):
        keyed["lengths"][LengthKey(process, cls, state)] = draw(HISTOGRAMS)
