"""Somebody sets the clock while the agent runs: an hour, a year, forwards and back."""

from __future__ import annotations

import itertools
import mmap
import struct
import subprocess
import time
from pathlib import Path

import pytest

from daemon.harness import AgentRun, lost, numbers, pauses, spans, watches, workload
from excise.spool import Entry, read_history

S = 1_000_000_000
HOUR_S, YEAR_S = 3600, 365 * 86_400
STEPS_S = (HOUR_S, 0, -HOUR_S, 0, YEAR_S, 0, -YEAR_S, 0)  # off the true time
WINDOWS = 2  # between two steps
SHIM = Path(__file__).with_name("clock_shim.c")


class Clock:
    """The wall clock of a child."""

    def __init__(self, folder: Path) -> None:
        library, self._path = folder / "clock_shim.so", folder / "clock"
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, SHIM, "-ldl"], check=True)
        self._path.write_bytes(bytes(mmap.PAGESIZE))
        self.environment = {"LD_PRELOAD": str(library), "EXCISE_TEST_CLOCK": str(self._path)}
        self.set(0)

    def set(self, offset_s: float) -> None:
        with self._path.open("r+b") as file, mmap.mmap(file.fileno(), 8) as at:
            at[:] = struct.pack("=q", round(offset_s * S))


@pytest.mark.bpf
def test_a_clock_that_is_set_neither_merges_windows_nor_loses_them(tmp_path: Path) -> None:
    clock = Clock(tmp_path)
    with AgentRun(tmp_path, targets=["busy"], environment=clock.environment) as run:
        run.start()
        run.until(watches("busy", windows=WINDOWS))
        for offset_s in STEPS_S:
            windows = workload(run.status(), "busy")["windows"]
            clock.set(offset_s)
            run.until(watches("busy", windows=windows + WINDOWS), f"windows go on at {offset_s:+} s")
        # over a restart too
        clock.set(-YEAR_S)
        run.stop()
        run.start()
        run.until(watches("busy", windows=WINDOWS))
        clock.set(0)
        run.stop()
        run.start()
        state = run.until(watches("busy", windows=WINDOWS))
        assert state["spool"]["dropped"] == 0
        run.stop()

        items = run.items()
        assert numbers(items) == list(range(1, len(numbers(items)) + 1))
        assert set(lost(items)) <= {"unused"}
        found = spans(items, "busy")
        assert pauses(found) <= 2  # the restarts
        # the end of a window is seen once a second, when the machine is idle: 1 s and a bit
        assert max(end - start for start, end in found) < 5 * S
        summaries = [e for e in items if isinstance(e, Entry)]
        assert len(summaries) >= WINDOWS * (len(STEPS_S) + 3)
        true_ns = time.time_ns()
        at = [span.start_wall_ns - true_ns for e in summaries for mine in e.summary.spans.values() for span in mine]
        for offset_s in {0, *STEPS_S}:
            near = [a for a in at if abs(a - offset_s * S) < 0.4 * HOUR_S * S]
            assert near, f"summaries of the time when the clock was {offset_s:+} s off"
        history = list(read_history(run.state_dir / "spool", "busy"))
        assert [e.sequence for e in history] == [e.sequence for e in summaries]
        half_ns = HOUR_S // 2 * S
        lately = list(read_history(run.state_dir / "spool", "busy", true_ns - half_ns, true_ns + half_ns))
        assert len(lately) >= WINDOWS


@pytest.mark.bpf
def test_windows_are_aligned_again_after_a_step(tmp_path: Path) -> None:
    clock = Clock(tmp_path)
    with AgentRun(tmp_path, targets=["busy"], environment=clock.environment, window="2s") as run:
        run.start()
        run.until(watches("busy", windows=2))
        clock.set(HOUR_S + 0.7)  # the grid is elsewhere
        run.until(watches("busy", windows=6))
        run.stop()
        entries = [item for item in run.items() if isinstance(item, Entry)]
        found = [min(span.start_wall_ns for mine in e.summary.spans.values() for span in mine) for e in entries]
        after = [start_ns for start_ns in found if start_ns > found[0] + HOUR_S // 2 * S]
        starts = [start_ns // (2 * S) for start_ns in after]
        assert starts == sorted(set(starts)) and all(b - a == 1 for a, b in itertools.pairwise(starts[1:-1]))
