"""Holds Excise's own cost under a budget: measures, and steps down or up a ladder of ways to see less.

Pure policy: it is told what was spent and says which step to take. Every step is unbiased (what is left out is stood
for by the weights of what is not); only errors grow. The levers, in order: walk fewer stacks, send fewer short waits,
sample less often, and last take the switch hooks out for a part of the time.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from excise.names import LEAST_BUDGET_CORES

DEFAULT_BUDGET_RATIO = 0.01  # of the target's CPU time

_UNWALKED = 0.35  # what a switch costs that is not walked, of one that is: 0.7 of 2 us, Python 3.11, 18 frames
_FULL_SWITCH_NS = 2500  # of a watched switch with its wakings, before any was measured
_PHASES_CORES = 0.002  # of our process, for the phases themselves: 20 threads, a phase a second
_FIXED_AGENT_CORES = 0.005  # until it is measured: demo server, 2 cores of an AMD EPYC
_AGENT_MEAN_S = 8.0  # what the agent costs is judged over so long: it names what it sees for the first time
_MARGIN = 0.93  # of the budget is aimed at: what is measured is noisy
_REPAY_S = 4.0  # a debt is paid back over so long
_SAVED_S = 2.0  # thrift is carried forward for so long
_NOT_WORTH = 0.1  # of the budget
_LEAST_SHARE = 0.4  # of the budget: what the levers act on is not pressed below that, however dear our processes are
_CLIMB_STEPS = 3
_LEAST_INTERVAL_NS = 500_000_000  # shorter ones say what we just did, and not what it costs
_PATIENCE_S, _MOST_PATIENCE_S = 2.0, 64.0
_REMEMBERED_S = 30.0


@dataclass(frozen=True, slots=True)
class Step:
    """`duty_ratio`: the share of the time that the switch hooks are on."""

    name: str
    walk_one_in: int = 1
    block_ns: int = 0
    rate_ratio: float = 1.0
    duty_ratio: float = 1.0


FULL = Step("everything")


def _ladder() -> tuple[Step, ...]:
    steps = [FULL]
    walks = [2**i for i in range(1, 7)]
    steps += [Step(f"walk 1 in {n}", n) for n in walks]
    most = walks[-1]
    blocks = (20_000, 50_000, 100_000)
    steps += [Step(f"waits from {ns / 1e6:g} ms", most, ns) for ns in blocks]
    steps += [Step(f"rate 1/{n}", most, blocks[-1], 1 / n) for n in (2, 5)]
    # in a phase every switch costs; to walk one in 8 of them adds a third, and there is enough to tell stages by
    steps += [Step(f"switches 1/{n} of the time", walks[2], 0, 1 / 5, 1 / n) for n in (2, 4, 8, 16, 32, 64, 128)]
    return tuple(steps)


LADDER = _ladder()


@dataclass(frozen=True, slots=True)
class Spent:
    """Of one interval, ns: how long it was, the target's CPU time, and ours by what it went with."""

    wall_ns: int
    target_ns: int
    agent_ns: int  # our processes
    switch_ns: int  # the programs on switches and wakings
    sample_ns: int  # the sampler and its ticks

    @property
    def ns(self) -> int:
        """All of ours."""
        return self.agent_ns + self.levers_ns

    @property
    def levers_ns(self) -> int:
        """What the steps act on. Our processes cost about the same whatever is seen."""
        return self.switch_ns + self.sample_ns

    def plus(self, other: Spent) -> Spent:
        """Both intervals together."""
        return Spent(
            self.wall_ns + other.wall_ns,
            self.target_ns + other.target_ns,
            self.agent_ns + other.agent_ns,
            self.switch_ns + other.switch_ns,
            self.sample_ns + other.sample_ns,
        )


NOTHING = Spent(0, 0, 0, 0, 0)


@dataclass(slots=True)
class Governor:
    """`budget_ratio` of the target's CPU time; None: no budget, everything is seen."""

    budget_ratio: float | None = DEFAULT_BUDGET_RATIO
    at: int = 0  # index into LADDER
    steps_ns: dict[str, int] = field(default_factory=dict)  # time spent on each step
    _pending: Spent = NOTHING
    _owed_ns: float = 0.0
    _agent_cores: float = _FIXED_AGENT_CORES  # a slow mean
    _since_s: float = 0.0  # time on this step
    _patience_s: float = _PATIENCE_S
    _climbed: bool = False
    _now_s: float = 0.0
    _known: dict[int, tuple[float, float]] = field(default_factory=dict)  # step -> our cores there, when

    @property
    def step(self) -> Step:
        return LADDER[self.at]

    @property
    def may_step_down(self) -> bool:
        """Whether it would see less if that were too dear."""
        return self.budget_ratio is not None and self.at < len(LADDER) - 1

    def budget_cores(self, target_cores: float) -> float:
        """What may be spent, in CPUs."""
        return max((self.budget_ratio or 0.0) * target_cores, LEAST_BUDGET_CORES)

    def expect(self, switches_hz: float, target_cores: float, samples_hz: float, sample_cost_ns: float) -> Step:
        """Where to begin, before anything is measured: by the scheduler's own count of the target's switches."""
        if self.budget_ratio is not None:
            budget = self.budget_cores(target_cores)
            allowed = max(_MARGIN * budget - _FIXED_AGENT_CORES, _LEAST_SHARE * budget)
            costs = [
                switches_hz * _FULL_SWITCH_NS / 1e9 * _switch_factor(step)
                + samples_hz * sample_cost_ns / 1e9 * step.rate_ratio
                + _phases_cores(step)
                for step in LADDER
            ]
            self.at = _first_affordable(costs, allowed, budget)
        return self.step

    def account(self, spent: Spent, urgent: bool = False) -> Step:
        """Takes in what an interval cost on the present step, and says which step to take now. Short intervals are put
        together before they are judged, unless it is `urgent`."""
        self.steps_ns[self.step.name] = self.steps_ns.get(self.step.name, 0) + spent.wall_ns
        self._pending = self._pending.plus(spent)
        if self._pending.wall_ns >= _LEAST_INTERVAL_NS or (urgent and self._pending.wall_ns > 0):
            spent, self._pending = self._pending, NOTHING
            if self.budget_ratio is not None:
                self._judge(spent)
        return self.step

    def _judge(self, spent: Spent) -> None:
        wall_s = spent.wall_ns / 1e9
        self._now_s += wall_s
        self._since_s += wall_s
        budget = self.budget_cores(spent.target_ns / spent.wall_ns)
        self._agent_cores += (spent.agent_ns / spent.wall_ns - self._agent_cores) * min(wall_s / _AGENT_MEAN_S, 1.0)
        left = max(_MARGIN * budget - self._agent_cores, _LEAST_SHARE * budget)
        cost = spent.levers_ns / spent.wall_ns
        self._owed_ns = max(self._owed_ns + (cost - left) * spent.wall_ns, -left * _SAVED_S * 1e9)
        allowed = max(left - self._owed_ns / 1e9 / _REPAY_S, left / 2)
        before = self._known.get(self.at)
        self._known[self.at] = cost if before is None else (before[0] + cost) / 2, self._now_s
        if cost > allowed:
            self._go_down(spent, allowed)
        elif cost < 0.8 * allowed and self._since_s >= self._patience_s:
            self._climb(spent, allowed)

    def _go_down(self, spent: Spent, allowed: float) -> None:
        if self._climbed and self._since_s < 2 * _PATIENCE_S:  # it was too early
            self._patience_s = min(2 * self._patience_s, _MOST_PATIENCE_S)
        costs = [self._cost_at(i, spent) for i in range(self.at, len(LADDER))]
        down = _first_affordable(costs, 0.9 * allowed, self.budget_cores(spent.target_ns / spent.wall_ns))
        if down:
            self._move(self.at + down)

    def _climb(self, spent: Spent, allowed: float) -> None:
        for i in range(max(self.at - _CLIMB_STEPS, 0), self.at):
            if self._cost_at(i, spent) <= 0.85 * allowed and not self._was_dear(i, allowed):
                self._move(i)
                self._climbed = True
                return
        if self.at == 0:
            self._patience_s = _PATIENCE_S

    def _move(self, to: int) -> None:
        self.at, self._since_s, self._climbed = to, 0.0, False

    def _cost_at(self, index: int, spent: Spent) -> float:
        """In CPUs, by a model of the levers: what a step would cost now in programs and ticks."""
        here, there = self.step, LADDER[index]
        switching = spent.switch_ns * _switch_factor(there) / _switch_factor(here)
        sampling = spent.sample_ns * there.rate_ratio / here.rate_ratio
        return (switching + sampling) / spent.wall_ns + _phases_cores(there) - _phases_cores(here)

    def _was_dear(self, index: int, allowed: float) -> bool:
        """Whether this step cost more than is allowed when it was last taken, a moment ago."""
        known = self._known.get(index)
        return known is not None and self._now_s - known[1] < _REMEMBERED_S and known[0] > allowed


def _first_affordable(costs: list[float], allowed: float, budget: float) -> int:
    """Of the costs of steps; no lower than helps: what is still saved must be worth what is not seen then."""
    least = min(costs) + _NOT_WORTH * budget
    return next(i for i, cost in enumerate(costs) if cost <= max(allowed, least))


def _phases_cores(step: Step) -> float:
    """What going on and off costs our process: with a target that does little, more than it saves."""
    return _PHASES_CORES if step.duty_ratio < 1 else 0.0


def _switch_factor(step: Step) -> float:
    return step.duty_ratio * (_UNWALKED + (1 - _UNWALKED) / step.walk_one_in)
