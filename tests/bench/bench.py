"""What Excise costs on this host, and what others cost beside it: one table, also written to docs/benchmarks.md.

    sudo make bench                                       # about 12 minutes
    sudo .venv/bin/python tests/bench/bench.py --quick    # about 2 minutes, to see that nothing broke

Nothing here passes or fails: a shared host is too noisy for that. Compare within one run, not between runs.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from excise_agent._numba_cache import pin_numba_cache

pin_numba_cache()

import bursts  # noqa: E402
import costs  # noqa: E402
import drains  # noqa: E402
import growth  # noqa: E402
import losses  # noqa: E402
import plane_rates  # noqa: E402
import starts  # noqa: E402
import summaries  # noqa: E402
import switches  # noqa: E402
import tools  # noqa: E402
from hosts import Demo, crowd  # noqa: E402
from numbers_of import Row, describe_host, write  # noqa: E402
from plan import QUICK, Plan  # noqa: E402

CROWD_SLEEP_S = 0.05  # between two bits of work of one thread: 4 000 switches a second together
ROOT = Path(__file__).resolve().parents[2]


def with_demo(plan: Plan, folder: Path) -> Iterator[Row]:
    with Demo(folder) as demo:
        yield from costs.rows(plan, demo, folder)
        yield from starts.rows(plan, demo)
        yield from tools.rows(plan, demo, folder)
        yield from summaries.rows(plan, "demo server", demo.pid, folder)


def many_threads(plan: Plan, folder: Path) -> Iterator[Row]:
    with crowd(200, 1, CROWD_SLEEP_S) as pid:
        yield from summaries.rows(plan, "200 threads", pid, folder)


PARTS: dict[str, Callable[[Plan, Path], Iterator[Row]]] = {
    "drains": lambda plan, _: drains.rows(plan),
    "plane": lambda plan, _: plane_rates.rows(),
    "demo": with_demo,
    "many_threads": many_threads,
    "switches": lambda plan, _: switches.rows(plan),
    "growth": lambda plan, _: growth.rows(plan),
    "bursts": bursts.rows,
    "losses": losses.rows,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two minutes: fewer and shorter windows, no cold start")
    parser.add_argument("--only", choices=list(PARTS), nargs="+", default=list(PARTS), help="these parts; no page")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "benchmarks.md")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("bench needs root, as attaching does", file=sys.stderr)
        return 2
    plan, began = QUICK if options.quick else Plan(), time.monotonic()
    rows: list[Row] = []
    for name in options.only:
        with tempfile.TemporaryDirectory(prefix="excise-bench-") as folder:
            for row in PARTS[name](plan, Path(folder)):
                print(row, flush=True)
                rows.append(row)
    print(f"took {time.monotonic() - began:.0f} s")
    if options.only == list(PARTS):
        write(options.output, [*describe_host(options.quick), "Beside it: " + ", ".join(tools.versions())], rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
