"""Watches a process once and prints what that cost as JSON. A process of its own: its CPU is the agent's."""

from __future__ import annotations

import time

_BEGAN_NS = time.monotonic_ns()

import argparse  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from excise_agent._numba_cache import pin_numba_cache  # noqa: E402

pin_numba_cache()

from excise_agent.attach import Options, Watch  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("pid", type=int)
    parser.add_argument("--duration", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=99.0)
    parser.add_argument("--budget", help="the most that it may cost, as a ratio of the target's CPU; or none")
    parser.add_argument("--record", type=Path)
    parser.add_argument("--summaries", type=Path)
    parser.add_argument("--window", type=float, default=10.0)
    parser.add_argument("--profile", type=Path, help="cProfile of the window")
    options = parser.parse_args()
    writer = None
    if options.record:
        from excise.recording import RecordingWriter

        writer = RecordingWriter(options.record)
    items: list[Any] = []
    keep = writer.write if writer else items.append
    summarizer = None
    if options.summaries:
        from excise.stages import Rules
        from excise.summarize import Summarizer
        from excise.summary import SummaryWriter

        summarizer = Summarizer(Rules.load(), SummaryWriter(options.summaries).write, round(options.window * 1e9))
        keep = summarizer.feed
    imported_s = sum(os.times()[:2])
    watch = Watch(
        Options(
            pid=options.pid,
            duration_s=options.duration,
            rate_hz=options.rate,
            window_s=options.window,
            **_budget(options.budget),
        ),
        keep,
        lambda text: print(text, file=sys.stderr),
    )
    try:
        watch.start()
        sampling_s = (time.monotonic_ns() - _BEGAN_NS) / 1e9
        print(json.dumps({"watching": True}), flush=True)
        cpu_s = time.process_time()  # times(2) counts in steps of 10 ms
        if options.profile:
            import cProfile

            profile = cProfile.Profile()
            profile.runcall(watch.run)
            profile.dump_stats(options.profile)
        else:
            watch.run()
        window_cpu_s = time.process_time() - cpu_s
        memory = _memory()
    finally:
        watch.close()
        if summarizer:
            summarizer.close()
        if writer:
            writer.close()
    print(
        json.dumps(
            {
                **watch.overhead,
                "sampling_s": sampling_s,
                "import_cpu_s": imported_s,
                "window_cpu_s": window_cpu_s,
                "total_cpu_s": sum(os.times()[:4]),
                **memory,
            }
        ),
        flush=True,
    )


def _budget(words: str | None) -> dict[str, float | None]:
    return {} if words is None else {"budget_ratio": None if words == "none" else float(words)}


def _memory() -> dict[str, int]:
    out = {}
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in ("Pss", "Private_Dirty", "Rss"):
            out[name.lower() + "_bytes"] = int(rest.split()[0]) * 1024
    return out


if __name__ == "__main__":
    main()
