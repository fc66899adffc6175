"""How long and how often each thing is measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """Seconds and counts. The whole takes about 12 minutes."""

    drains: int = 25
    steady_s: float = 8.0
    steady_rounds: int = 3
    starts: int = 5
    cold: bool = True
    block_s: float = 2.0
    blocks: int = 8
    switch_blocks: int = 60
    switch_s: float = 0.2
    threads: tuple[int, ...] = (1, 10, 50, 100, 500)
    processes: tuple[int, ...] = (1, 10, 30, 100)
    growth_s: float = 3.0
    growth_rounds: int = 1
    burst_s: float = 10.0
    bursts: int = 2
    shares_s: float = 3.0
    repeats: int = 20
    summary_s: float = 10.0
    summary_windows: int = 3


QUICK = Plan(
    drains=5,
    steady_s=2,
    steady_rounds=1,
    starts=1,
    cold=False,
    block_s=1,
    blocks=2,
    switch_blocks=10,
    threads=(1, 10, 500),
    processes=(1, 10, 30),
    growth_s=2,
    growth_rounds=1,
    burst_s=3,
    bursts=1,
    shares_s=1.5,
    repeats=2,
    summary_s=2,
    summary_windows=2,
)
