"""A target and an agent whose costs are known: what the governor is tried on."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from excise_agent.governor import LADDER, Governor, Spent, Step

SECOND_NS = 1_000_000_000


@dataclass
class Plant:
    """`switches_hz` of the target, `cores` that it uses; what a walked and a bare switch cost, and the agent."""

    switches_hz: float
    cores: float = 1.0
    walked_ns: float = 2500.0
    bare_ns: float = 700.0
    agent_cores: float = 0.002
    sampling_cores: float = 0.001
    noise: float = 0.1
    random: random.Random = field(default_factory=lambda: random.Random(7))

    def cost_cores(self, step: Step) -> float:
        per_switch = self.bare_ns + (self.walked_ns - self.bare_ns) / step.walk_one_in
        switching = self.switches_hz * step.duty_ratio * per_switch / 1e9
        return switching + self.sampling_cores * step.rate_ratio + self.agent_cores

    def spend(self, step: Step, wall_s: float = 1.0) -> Spent:
        switching = self.cost_cores(step) - self.sampling_cores * step.rate_ratio - self.agent_cores

        def ns(cores: float) -> int:
            return round(cores * wall_s * SECOND_NS * self.random.uniform(1 - self.noise, 1 + self.noise))

        return Spent(
            round(wall_s * SECOND_NS),
            round(self.cores * wall_s * SECOND_NS),
            ns(self.agent_cores),
            ns(switching),
            ns(self.sampling_cores * step.rate_ratio),
        )


def run(governor: Governor, plant: Plant, seconds: int) -> list[tuple[Step, Spent]]:
    """One account a second."""
    out = []
    for _ in range(seconds):
        step = governor.step
        spent = plant.spend(step)
        out.append((step, spent))
        governor.account(spent)
    return out


def mean_cores(seen: list[tuple[Step, Spent]]) -> float:
    return sum(spent.ns for _, spent in seen) / sum(spent.wall_ns for _, spent in seen)


def least_step(plant: Plant, budget: float) -> int:
    """The first step that this plant can afford."""
    return next((i for i, step in enumerate(LADDER) if plant.cost_cores(step) <= budget), len(LADDER) - 1)
