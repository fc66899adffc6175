"""What Excise costs on this host: one table, also written to docs/benchmarks.md.

    sudo make bench                              # about 6 minutes
    sudo .venv/bin/python tests/bench/bench.py --quick    # about 1 minute, to see that nothing broke

Nothing here passes or fails: a shared host is too noisy for that. Compare within one run, not between runs.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import drains
from hosts import Demo, Watching, idle_process, ping_pong
from numbers_of import Row, describe_host, interval_of_ratio, median, spread, write

ROOT = Path(__file__).resolve().parents[2]
RATES_HZ = (19.0, 99.0, 999.0)


@dataclass(frozen=True)
class Plan:
    steady_s: float = 10.0
    steady_rounds: int = 3
    starts: int = 5
    block_s: float = 3.0
    blocks: int = 12
    switch_s: float = 2.0
    cold: bool = True


QUICK = Plan(steady_s=4, steady_rounds=1, starts=1, block_s=1.5, blocks=3, switch_s=1, cold=False)


def steady(plan: Plan, demo: Demo, folder: Path) -> Iterator[Row]:
    seen: dict[float, list[dict[str, Any]]] = {rate: [] for rate in RATES_HZ}
    bytes_per_min = []
    for number in range(plan.steady_rounds):
        for rate in RATES_HZ:
            record = folder / f"{number}-{rate}.excise"
            seen[rate].append(Watching(demo.pid, plan.steady_s, rate, record=record).wait())
            if rate == 99.0:
                bytes_per_min.append(record.stat().st_size * 60 / plan.steady_s)
    how = f"median of {plan.steady_rounds} windows of {plan.steady_s:g} s, interleaved; demo server, 2 clients"
    parts = ("agent_cpu_ratio", "bpf_cpu_ratio", "tick_cpu_ratio")
    for rate, runs in seen.items():
        whole = [sum(r[p] or 0 for p in parts) for r in runs]
        yield Row(
            f"whole cost at {rate:g} Hz",
            percent(median(whole)),
            "of the target's CPU",
            f"{how}; {spread(whole, percent)}",
        )
        for part in parts:
            yield Row(
                f"  {part.removesuffix('_cpu_ratio')}",
                percent(median([r[part] or 0 for r in runs])),
                "of the target's CPU",
                {
                    "agent_cpu_ratio": "all of our processes in the window, naming included",
                    "bpf_cpu_ratio": "runs x mean of 1 run in 64",
                    "tick_cpu_ratio": "ticks x calibrated cost",
                }[part],
            )
        for program in ("on_cpu", "on_switch", "on_waking"):
            ns = median([r["programs"][program]["mean_ns"] or 0 for r in runs])
            per_s = median([r["programs"][program]["runs"] / plan.steady_s for r in runs])
            yield Row(f"  {program}", f"{ns:,.0f}", "ns a run", f"{per_s:,.0f} runs/s, all of the host's counted")
    yield Row(
        "one timer tick", f"{seen[99.0][0]['tick_ns']:,}", "ns", "loop with and without a 10 kHz clock, once per boot"
    )
    at_99 = seen[99.0]
    yield Row("agent memory", mib(median([r["pss_bytes"] for r in at_99])), "MiB PSS", "smaps_rollup at a window's end")
    yield Row(
        "agent memory, its own", mib(median([r["private_dirty_bytes"] for r in at_99])), "MiB private dirty", "same"
    )
    yield Row(
        "recording",
        f"{median(bytes_per_min) / 1024:,.0f}",
        "KiB a minute",
        f"file size, 99 Hz, {plan.steady_s:g} s windows, definitions included",
    )


def starting(plan: Plan, demo: Demo) -> Iterator[Row]:
    with idle_process() as pid:
        for name, target in (("idle host", pid), ("saturated host", demo.pid)):
            with demo.paused() if target == pid else contextlib.nullcontext():
                runs = [Watching(target, 0.3, 99.0).wait() for _ in range(plan.starts)]
            how = f"median of {plan.starts}, caches warm; from exec of the interpreter"
            yield Row(f"start to sampling, {name}", f"{median([r['ready_s'] for r in runs]):.2f}", "s", how)
            yield Row(
                "  CPU of it",
                f"{median([r['startup_cpu_s'] for r in runs]):.2f}",
                "CPU-s",
                "times(2), children included",
            )
        if plan.cold:
            with tempfile.TemporaryDirectory(prefix="excise-cold-") as cache, demo.paused():
                run = Watching(pid, 0.3, 99.0, cache=Path(cache)).wait()
            yield Row(
                "start to sampling, cold", f"{run['ready_s']:.1f}", "s", "one run, empty cache: numba and bcc compile"
            )
            yield Row("  CPU of it", f"{run['startup_cpu_s']:.1f}", "CPU-s", "same")


def throughput(plan: Plan, demo: Demo) -> Iterator[Row]:
    """Blocks in random order within a round; what a block is compared with lies in the same round."""
    tools: dict[str, Callable[[], Any]] = {
        "nothing": contextlib.nullcontext,
        "nothing again (A/A)": contextlib.nullcontext,
        "excise 99 Hz": lambda: Watching(demo.pid, plan.block_s + 0.2, 99.0),
        "py-spy 100 Hz": lambda: PySpy(demo.pid, plan.block_s + 1.5),
    }
    rates: dict[str, list[float]] = {name: [] for name in tools}
    cpu: dict[str, list[float]] = {name: [] for name in tools}
    for _ in range(plan.blocks):
        for name in random.sample(list(tools), len(tools)):
            with tools[name]():
                requests, cpu_s = demo.during(plan.block_s)
            rates[name].append(requests / plan.block_s)
            cpu[name].append(cpu_s / max(requests, 1))
    how = f"{plan.blocks} blocks of {plan.block_s:g} s in random order"
    yield Row("requests, nothing attached", f"{median(rates['nothing']):.1f}", "requests/s", f"median of {how}")
    for name in list(tools)[1:]:
        for what, series in (("requests", rates), ("server CPU a request", cpu)):
            ratio, low, high = interval_of_ratio(series[name], series["nothing"])
            yield Row(
                f"{name}: {what}",
                f"{ratio:.3f}",
                "ratio to nothing",
                f"95 % interval {low:.3f} to {high:.3f}, bootstrap over rounds; {how}",
            )


class PySpy:
    """`py-spy record` beside the server; sampling when entered."""

    def __init__(self, pid: int, duration_s: float) -> None:
        self._process = subprocess.Popen(
            [
                Path(sys.executable).with_name("py-spy"),
                "record",
                "--rate",
                "100",
                "-d",
                str(round(duration_s + 0.5)),
                "--format",
                "raw",
                "-o",
                os.devnull,
                "--pid",
                str(pid),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def __enter__(self) -> PySpy:
        time.sleep(0.5)  # it says nothing when it begins
        return self

    def __exit__(self, *_: object) -> None:
        self._process.wait(60)


def switches(plan: Plan) -> Iterator[Row]:
    """Two processes that nobody watches hand a byte to each other on one CPU, while something idle is watched."""
    with ping_pong() as trips, idle_process() as pid:
        plain, watched, programs = [], [], []
        for _ in range(3):
            plain.append(trips(plan.switch_s))
            with Watching(pid, plan.switch_s + 0.2, 0.0) as watching:
                watched.append(trips(plan.switch_s))
            programs.append(watching.wait()["programs"])
    how = f"pipe ping-pong pinned to one CPU, 3 x {plan.switch_s:g} s, interleaved"
    for program in ("on_switch", "on_waking"):
        yield Row(
            f"unwatched threads: {program}",
            f"{median([p[program]['mean_ns'] for p in programs]):,.0f}",
            "ns a run",
            f"{how}; two clock reads included, about 50 ns",
        )
    extra = (median(watched) - median(plain)) / 2
    yield Row("unwatched threads: a switch takes longer by", f"{extra * 1e9:,.0f}", "ns", f"{how}; wall time, noisy")


def percent(ratio: float) -> str:
    return f"{100 * ratio:.2f} %"


def mib(count: float) -> str:
    return f"{count / (1 << 20):,.1f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a minute: fewer and shorter windows, no cold start")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "benchmarks.md")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("bench needs root, as attaching does", file=sys.stderr)
        return 2
    plan = QUICK if options.quick else Plan()
    rows = list(drains.rows())
    print(*rows, sep="\n")
    with tempfile.TemporaryDirectory(prefix="excise-bench-") as folder, Demo(Path(folder)) as demo:
        for part in (steady(plan, demo, Path(folder)), starting(plan, demo), throughput(plan, demo)):
            for row in part:
                print(row, flush=True)
                rows.append(row)
    for row in switches(plan):
        print(row, flush=True)
        rows.append(row)
    write(options.output, describe_host(options.quick), rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
