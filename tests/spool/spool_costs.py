"""What the spool costs on this host: `PYTHONPATH=tests/summary python tests/spool/spool_costs.py [FOLDER]`.

docs/spool.md has the numbers."""

import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from typical_summary import window

from excise.spool import Cursor, Entry, Spool, history_workloads, read_history
from excise.summary import Summary, fit
from excise.workload import Workload

WINDOWS = 120


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """CPU and wall time, ms."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return 1e3 * (time.process_time() - cpu), 1e3 * (time.perf_counter() - wall)


def row(what: str, times: list[tuple[float, float]]) -> None:
    cpu, wall = (statistics.median(column) for column in zip(*times, strict=True))
    print(f"{what:44} {cpu:8.3f} ms CPU {wall:8.3f} ms wall, longest {max(w for _, w in times):.1f} ms")


def measure(folder: Path, workloads: int) -> None:
    made = [[fit(window(seed, index), 4096) for seed in range(workloads)] for index in range(WINDOWS // workloads)]
    spool = Spool(folder, "0" * 32, 200_000_000, 86_400)
    cursor = Cursor(folder, "sink")
    names = [Workload(f"service-{i}.service", "unit") for i in range(workloads)]
    reserves, appends, nexts, acks = [], [], [], []

    def write(sequence: int, workload: Workload, summary: Summary) -> None:
        assert spool.append(Entry(sequence, workload, summary))

    for summaries in made:
        given: list[int] = []
        reserves.append(timed(lambda given=given: given.extend(spool.reserve(workloads))))  # type: ignore[misc]
        for entry in zip(given, names, summaries, strict=True):
            appends.append(timed(lambda entry=entry: write(*entry)))  # type: ignore[misc]
    for _ in range(len(appends)):
        nexts.append(timed(lambda: cursor.next(1)))
        acks.append(timed(lambda: cursor.ack(cursor.next(1)[0].sequence)))  # type: ignore[union-attr]
    state = spool.state()
    print(f"{workloads} workloads with 50 stacks, {state.written} windows: {state.bytes / state.written:,.0f} bytes "
          f"each, the first of a workload {first_bytes(folder):,}")
    for what, times in (("reserve (fdatasync)", reserves), ("append", appends), ("next", nexts),
                        ("ack (fdatasync)", acks)):
        row(what, times)
    row("history_workloads, per window", [scaled(timed(lambda: history_workloads(folder)), state.written)])
    row("read_history, per window", [scaled(timed(lambda: list(read_history(folder))), state.written)])
    row("read_history of none, per window", [scaled(timed(lambda: list(read_history(folder, since_ns=1 << 62))),
                                                    state.written)])
    spool.close()
    row("open again", [timed(lambda: Spool(folder, "0" * 32, 200_000_000, 86_400).close())])
    (folder / "totals.json").unlink()
    row("open again without totals, per window", [scaled(timed(
        lambda: Spool(folder, "0" * 32, 200_000_000, 86_400).close()), state.written)])


def first_bytes(folder: Path) -> int:
    data = next(folder.glob("*.summaries")).read_bytes()
    at, frames = data.index(b"\n") + 1, 0
    while frames < 4:  # head, definitions, shipment, summary
        at += 9 + int.from_bytes(data[at:at + 4], "little")
        frames += 1
    return at


def scaled(times: tuple[float, float], count: int) -> tuple[float, float]:
    return times[0] / count, times[1] / count


if __name__ == "__main__":
    for workloads_ in (1, 20):
        with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as name:
            measure(Path(name) / "s", workloads_)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")
