"""CPU time of a look at 300 idle processes, and while 20 come and go. What it printed stands in docs/discovery.md."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

from excise_agent.config.schema import DiscoveryConfig
from excise_agent.discovery import Discovery

SLEEPER = "import time; time.sleep(600)"


def measure(discovery: Discovery, looks: int, pause_s: float, churn: int = 0) -> tuple[float, float]:
    """(median, mean) us of CPU a look, system time included."""
    spent = []
    for _ in range(looks):
        for _ in range(churn):
            subprocess.run(["/bin/true"], check=True)
        before = time.thread_time_ns()
        discovery.look()
        spent.append((time.thread_time_ns() - before) / 1000)
        time.sleep(pause_s)
    return statistics.median(spent), statistics.fmean(spent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=300)
    parser.add_argument("--looks", type=int, default=60)
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between looks")
    asked = parser.parse_args()
    children = [
        subprocess.Popen([sys.executable, "-c", SLEEPER] if n % 10 == 0 else ["sleep", "600"])
        for n in range(asked.processes)
    ]
    discovery = Discovery(DiscoveryConfig())
    try:
        time.sleep(2)
        before = time.thread_time_ns()
        found = len(discovery.look().found)
        first_ms = (time.thread_time_ns() - before) / 1e6
        while discovery.counts.waiting:
            discovery.look()
        print(
            f"{os.uname().release}, {discovery.counts.processes} processes, {found} found; first look {first_ms:.1f} ms"
        )
        for churn in (0, 20):
            median, mean = measure(discovery, asked.looks, asked.pause, churn)
            print(
                f"{churn:2d} come and go a look: median {median:.0f} us, mean {mean:.0f} us of CPU a look; "
                f"one each {discovery.interval_s:.1f} s"
            )
    finally:
        discovery.close()
        for child in children:
            child.kill()
            child.wait()


if __name__ == "__main__":
    main()
