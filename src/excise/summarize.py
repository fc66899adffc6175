"""From windows that were accounted for to summaries: what is kept of them and shipped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from excise.batch import Item
from excise.frames import Process
from excise.ledger.account import Accounted, classes_of
from excise.ledger.cell_errors import running_variances
from excise.ledger.classes import CLASSES
from excise.ledger.tally import steps_ns
from excise.ledger.windows import Window, Windows
from excise.names import KERNEL_STATES, STAGES, STATE_ID, STATES
from excise.records import WEIGHT_ONE
from excise.stages import Rules
from excise.summary import ALL_STATES, CLASS_NAMES, Histogram, Span, Summary, SummaryBuilder, compact, merge

RUNNING = KERNEL_STATES.index("running")
STACKS: Final = 50  # kept of a window, when nothing else is asked for
_NS2_PER_US2: Final = 1e6
_Cell = tuple[int, int, int]  # id of the process, class, state
_MODES: Final = (STATE_ID["running_user"], STATE_ID["running_kernel"])
_HOST: Final[tuple[str, ...]] = (
    "cpu_ns", "throttled_ns", "rss_bytes", "disk_read_bytes", "disk_write_bytes", "net_in_bytes", "net_out_bytes",
)


class Summarizer:
    """Feed it the items of a stream; it gives a summary for each window of the wall clock.

    A stream may have several totals in one such window (a watch that begins, or changes the way it looks): they are one
    summary. `window_ns`: its length; windows begin at multiples of it. `stacks`: how many are kept of each.
    """

    def __init__(
        self, rules: Rules, emit: Callable[[Summary], None], window_ns: int, stacks: int = STACKS
    ) -> None:
        self._windows = Windows(rules, self._take)
        self._emit = emit
        self._window_ns = window_ns
        self._stacks = stacks
        self._open: Summary | None = None
        self._until_ns = 0

    def feed(self, item: Item) -> None:
        """Takes one item of the stream, in order."""
        self._windows.feed(item)

    def close(self) -> None:
        """Gives what is left of a window that did not end."""
        if self._open is not None:
            self._emit(compact(replace(self._open, windows=1), self._stacks))
            self._open = None

    def _take(self, window: Window) -> None:
        summary = summarize(window, 4 * self._stacks)
        start_ns, end_ns = wall_span(window)
        if self._open is not None and not self._until_ns - self._window_ns <= start_ns < self._until_ns:
            self.close()  # the clock was set meanwhile, or the watch paused
        if self._open is None:
            self._until_ns = (start_ns // self._window_ns + 1) * self._window_ns
            self._open = summary
        else:
            self._open = merge(self._open, summary)
        if end_ns >= self._until_ns:
            self.close()


def wall_span(window: Window) -> tuple[int, int]:
    """[start, end) by the wall clock, ns since 1970, as it stood when the stream began."""
    offset = window.header.start_wall_ns - window.header.start_mono_ns
    return window.start_ns + offset, window.end_ns + offset


def summarize(window: Window, most_stacks: int = 4 * STACKS) -> Summary:
    """The summary of one window, with its heaviest stacks. Times are those of carriers, but for the helpers'."""
    header, found = window.header, window.found
    start_wall_ns, end_wall_ns = wall_span(window)
    builder = SummaryBuilder(
        boot_id=header.boot_id,
        version=header.version,
        collector=str(header.target.get("collector", "")),
        rate_hz=header.rate_hz,
        capabilities=_capabilities(header.capabilities),
        span=Span(start_wall_ns, end_wall_ns, window.start_ns, window.end_ns),
    )
    ids = _processes(builder, window)
    cells = _cells(builder, found, ids, header.rate_hz > 0)
    _errors(builder, found)
    _helpers(builder, found, window, ids)
    _lengths(builder, found, ids)
    _stacks(builder, window, ids, cells, most_stacks)
    return builder.build(
        kpis=_kpis(found, header.host),
        quality=_quality(found),
        cost={name: _whole(found.costs.get(name)) for name in ("agent_ns", "bpf_ns", "tick_ns", "target_cpu_ns")},
        lost=found.lost,
        steps=steps_ns(found.costs),
    )


def _capabilities(known: Mapping[str, Any]) -> list[str]:
    return sorted(f"{name}={value}" if isinstance(value, str) else name for name, value in known.items() if value)


def _processes(builder: SummaryBuilder, window: Window) -> dict[int, int]:
    root = window.header.target.get("pid")
    out = {}
    for pid in dict.fromkeys(pid for pid, _ in window.found.threads.keys):
        process = window.known.processes.get(pid) or Process(pid, 0, "")
        out[pid] = builder.process(process, root=pid == root)
    return out


def _by_process(found: Accounted, ids: Mapping[int, int]) -> tuple[NDArray[np.int64], list[int]]:
    """The number of each carrier's process (-1: no carrier), and the processes' ids by number."""
    number = {pid: i for i, pid in enumerate(ids)}
    of_thread = [number[pid] if carrier else -1
                 for (pid, _), carrier in zip(found.threads.keys, found.threads.carrier.tolist(), strict=True)]
    return np.array(of_thread, np.int64), list(ids.values())


def _cells(builder: SummaryBuilder, found: Accounted, ids: Mapping[int, int], sampled: bool) -> dict[_Cell, float]:
    """ns by (process, class, state)."""
    of_thread, processes = _by_process(found, ids)
    of_runs = running_variances(found.on_cpu)
    ours = of_thread >= 0
    shape = (len(processes), len(STATES), len(CLASSES))
    ns, variance = np.zeros(shape), np.zeros(shape)
    for mode, state in enumerate(_MODES):
        np.add.at(ns[:, state], of_thread[ours], found.on_cpu.ns[ours, :, mode])
        np.add.at(variance[:, state], of_thread[ours], of_runs[ours, :, mode])
    for kernel_state, name in enumerate(KERNEL_STATES):
        if kernel_state != RUNNING:
            np.add.at(ns[:, STATE_ID[name]], of_thread[ours], found.off_cpu[ours, kernel_state])
            np.add.at(variance[:, STATE_ID[name]], of_thread[ours], found.wait_variances[ours, kernel_state])
    running = np.zeros(len(STATES), bool)
    running[list(_MODES)] = True
    out: dict[_Cell, float] = {}
    for process, state, class_ in np.argwhere(ns >= 0.5).tolist():
        unknown = running[state] and not (sampled and found.sampled)
        builder.cell(
            processes[process], CLASS_NAMES[class_], STATES[state], float(ns[process, state, class_]),
            None if unknown else float(variance[process, state, class_]) / _NS2_PER_US2,
        )
        out[processes[process], class_, state] = float(ns[process, state, class_])
    return out


def _stacks(
    builder: SummaryBuilder, window: Window, ids: Mapping[int, int], cells: Mapping[_Cell, float], most: int
) -> None:
    """The heaviest. Where samples of one process stand for the time of others too, its cells have less time than its
    stacks: those are brought down to it, and the others' time stays without a stack."""
    found = window.found
    heaviest = [cell for cell in found.cells if found.whose[int(cell["whose"])][2]][:most]
    keys = [(ids[found.whose[int(c["whose"])][0]], int(c["class_"]), int(c["state"])) for c in heaviest]
    sums: dict[_Cell, float] = {}
    for key, cell in zip(keys, heaviest, strict=True):
        sums[key] = sums.get(key, 0.0) + float(cell["ns"])
    for key, cell in zip(keys, heaviest, strict=True):
        share = min(cells.get(key, 0.0) / sums[key], 1.0)
        if share > 0:
            frames = window.known.stack(int(cell["stack"]))
            ns = float(cell["ns"]) * share
            builder.stack(key[0], CLASS_NAMES[key[1]], STATES[key[2]], frames, ns, int(cell["count"]))


def _errors(builder: SummaryBuilder, found: Accounted) -> None:
    if not found.sampled:
        return
    compute, parked = classes_of("compute"), classes_of("idle", "handoff")
    tax = 1 - compute - parked
    covariance = found.covariance / _NS2_PER_US2
    builder.errors(
        {stage: found.variance(classes_of(stage)) / _NS2_PER_US2 for stage in STAGES},
        float(compute @ covariance @ compute),
        float(tax @ covariance @ tax),
        float(compute @ covariance @ tax),
    )


def _helpers(builder: SummaryBuilder, found: Accounted, window: Window, ids: Mapping[int, int]) -> None:
    threads = found.threads
    for i in np.flatnonzero(~threads.carrier).tolist():
        pid = threads.keys[i][0]
        states = {name: float(found.state_ns[i, k]) for k, name in enumerate(KERNEL_STATES)}
        builder.helper(ids[pid], found.helper_library(i, window.known.threads), 1, states)


def _lengths(builder: SummaryBuilder, found: Accounted, ids: Mapping[int, int]) -> None:
    gathered: dict[tuple[int, int], dict[int, int]] = {}
    for pid, class_, _, bucket, weight in found.lengths.tolist():
        counts = gathered.setdefault((pid, class_), {})
        counts[bucket] = counts.get(bucket, 0) + weight
    for (pid, class_), counts in gathered.items():
        whole = {bucket: n for bucket, w in counts.items() if (n := round(w / WEIGHT_ONE)) > 0}
        builder.lengths(ids[pid], CLASS_NAMES[class_], ALL_STATES, Histogram(4, whole))


def _kpis(found: Accounted, host: Mapping[str, Any]) -> dict[str, int | None]:
    out: dict[str, int | None] = {name: _whole(found.host[name]) for name in _HOST if name in found.host}
    quota, allowed = host.get("quota_cpus"), host.get("allowed_cpus")
    if quota is not None:
        out["quota_millicpus"] = round(1000 * quota)
    if allowed is not None:
        out["allowed_cpus"] = _whole(allowed)
    out["threads"], out["carriers"] = len(found.threads.keys), int(found.threads.carrier.sum())
    if found.host.get("listen_ports") is not None:
        out["listen_ports"] = len(found.host["listen_ports"])
    return out


def _quality(found: Accounted) -> dict[str, int | None]:
    totals = found.totals
    checked = totals[(totals["sched_running_ns"] >= 0) & (totals["sched_runnable_ns"] >= 0)]
    return {
        "samples": int(found.samples.sum()),
        "carrier_samples": int(found.samples[found.threads.carrier].sum()),
        # below zero by what was settled at the last edge, where the window is short
        "running_ns": max(int(checked["state_ns"][:, RUNNING].sum()), 0),
        "sched_running_ns": max(int(checked["sched_running_ns"].sum()), 0),
        "runnable_ns": max(int(checked["state_ns"][:, KERNEL_STATES.index("runnable")].sum()), 0),
        "sched_runnable_ns": max(int(checked["sched_runnable_ns"].sum()), 0),
    }


def _whole(value: Any) -> int | None:
    return max(round(value), 0) if isinstance(value, (int, float)) else None
