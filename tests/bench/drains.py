"""Rows: records a second out of one ring, by `Fold.drain` and by bcc's callback."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from numbers_of import Row, interval_of_ratio, median, spread
from plan import Plan

CALLBACKS = {
    "fold": ("bcc's callback, the same fold", "the result that ours has: sums by all that tells records apart"),
    "glance": ("bcc's callback, two fields", "event(data), two fields read, nothing kept"),
    "nothing": ("bcc's callback, empty", "the call alone, no field read"),
}


def rows(plan: Plan) -> Iterator[Row]:
    command = [sys.executable, str(Path(__file__).with_name("ring_race.py")), str(plan.drains)]
    said = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    rates: dict[str, list[float]] = said["records_per_s"]
    how = (
        f"median of {plan.drains} on a ring of 2 MiB filled by the kernel, {said['mean_bytes']:.0f} bytes a record "
        "with its header, in turns"
    )
    ours = rates["excise"]
    yield Row("drain: excise", millions(median(ours)), "million records/s", f"{how}; {spread(ours, millions)}")
    for name, (what, meaning) in CALLBACKS.items():
        yield Row(f"drain: {what}", millions(median(rates[name])), "million records/s", f"{meaning}; {how}")
        ratio, low, high = interval_of_ratio(ours, rates[name])
        yield Row("  excise is faster by", f"{ratio:.0f}", "times", f"95 % interval {low:.0f} to {high:.0f}")


def millions(rate: float) -> str:
    return f"{rate / 1e6:,.2f}"
