"""A minute of a typical server, made up but of the right shape: the size budget is measured on it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.random import Generator

from excise.batch import (
    LENGTH_DTYPE,
    SLICE_DTYPE,
    TOTALS_DTYPE,
    Batch,
    Cost,
    Definitions,
    End,
    Header,
    HostSample,
    Item,
    Totals,
)
from excise.frames import Frame, Process, Thread
from excise.names import KERNEL_STATE_ID
from excise.records import WEIGHT_ONE

RATE_HZ = 99
SECOND_NS = 1_000_000_000
TIDS = np.arange(4242, 4250, dtype=np.uint32)


def minute(seconds: int = 60, rows: int = 600, stacks: int = 1200, seed: int = 1) -> Iterator[Item]:
    """8 threads, 1.25 frames a stack at first, 4 new stacks a second."""
    random = np.random.default_rng(seed)
    yield Header("6f1d", {"cpus": 8}, {"pid": 4242, "comm": "python3", "collector": "bpf"},
                 1_790_000_000 * SECOND_NS, 77 * SECOND_NS, RATE_HZ)
    site = "/opt/venv/lib/python3.11/site-packages"
    count = stacks * 5 // 4
    frames = [Frame("python", f"{site}/package{i % 90}/mod{i % 250}.py", f"Class{i % 40}.method_{i}", i % 900)
              for i in range(count)]
    trunk = tuple(int(x) for x in random.integers(0, count, 14))
    yield Definitions(frames, [_stack(random, count, trunk) for _ in range(stacks)],
                      [Process(4242, 5, "python3", "3.11.7")],
                      [Thread(int(tid), 4242, f"worker_{tid % 8}", True) for tid in TIDS])
    for second in range(seconds):
        start = (77 + second) * SECOND_NS
        yield Definitions(
            [Frame("python", f"{site}/package{second}/late.py", f"f{second}_{i}", i) for i in range(6)],
            [_stack(random, count, trunk) for _ in range(4)])
        stacks += 4
        slices = _slices(random, rows, stacks)
        yield Batch(start, start + SECOND_NS, slices, {}, _lengths(random, slices))
        yield Cost(start, start + SECOND_NS, {
            "agent_ns": int(random.integers(3_000_000, 5_000_000)),
            "bpf_ns": int(random.integers(2_000_000, 9_000_000)), "tick_ns": 400_000,
            "target_ns": 1_900_000_000, "steps": {"full": SECOND_NS}})
        yield _totals(random, start)
        yield HostSample(start, start + SECOND_NS, {
            "cpus_used": 1.9, "throttled_ns": 0, "rss_bytes": 912_000_000 + second,
            "net_in_bytes": int(random.integers(1 << 22))})
    yield End((77 + seconds) * SECOND_NS, "duration", {"agent_cpu_ratio": 0.004})


def _stack(random: Generator, frames: int, trunk: tuple[int, ...]) -> tuple[int, ...]:
    leaf = tuple(int(x) for x in random.integers(0, frames, random.integers(2, 14)))
    return leaf + trunk


def _slices(random: Generator, count: int, stacks: int) -> np.ndarray:
    rows = np.zeros(count, SLICE_DTYPE)
    samples = np.arange(count) < count * 0.4
    rows["pid"], rows["tid"] = 4242, random.choice(TIDS, count)
    rows["state"] = np.where(samples, KERNEL_STATE_ID["running"], random.choice([1, 2, 3, 4, 5, 7], count))
    rows["syscall"] = np.where(samples, -1, random.choice([202, 232, 0, 1, 230], count))
    rows["fd_class"], rows["fd"] = 0, 255
    rows["stack"] = 1 + np.minimum(random.zipf(1.3, count), stacks) - 1
    rows["waker"] = np.where(samples, 0, random.choice(TIDS, count))
    rows["count"] = random.geometric(0.3, count)
    rows["weight_ns"] = np.where(samples, rows["count"] * (SECOND_NS // RATE_HZ),
                                 np.exp(random.normal(13, 2.5, count)).astype(np.int64))
    rows["runnable_ns"] = np.where(samples, 0, np.exp(random.normal(10, 1.5, count)).astype(np.int64))
    return rows


def _lengths(random: Generator, slices: np.ndarray) -> np.ndarray:
    """Of each wait one, within an octave of its row's mean: folded, 2 to 3 a row."""
    waits = np.flatnonzero(slices["state"] != KERNEL_STATE_ID["running"])
    row = np.repeat(waits, slices["count"][waits])
    mean = slices["weight_ns"][row] / slices["count"][row]
    bucket = np.maximum(16 * (np.log2(np.maximum(mean, 1)) + random.normal(0, 0.5, len(row))), -1).astype(np.int64)
    pairs, counts = np.unique(np.stack((row, bucket)), axis=1, return_counts=True)
    out = np.zeros(len(counts), LENGTH_DTYPE)
    out["row"], out["bucket"], out["weight"] = pairs[0], pairs[1], counts * WEIGHT_ONE
    return out


def _totals(random: Generator, start_ns: int) -> Totals:
    rows = np.zeros(len(TIDS), TOTALS_DTYPE)
    rows["pid"], rows["tid"] = 4242, TIDS
    rows["state_ns"] = random.integers(0, SECOND_NS // 10, rows["state_ns"].shape)
    rows["lifetime_ns"] = SECOND_NS
    rows["sched_running_ns"] = rows["state_ns"][:, 0]
    rows["sched_runnable_ns"] = rows["state_ns"][:, 1]
    return Totals(start_ns, start_ns + SECOND_NS, rows)
