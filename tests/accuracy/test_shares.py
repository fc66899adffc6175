"""Stage shares against the workload's own clock: threads, an event loop with a pool, worker processes, one busy loop.

Each workload contends for the GIL, plants 10 % of work that no rule knows and sleeps 20 ms in every request. Then the
same with the model's default thread pool, and with every user function renamed f1..fn in another file.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from excise.ledger.build import build_report
from excise.report import Report
from excise.session import Session
from excise.stages import Rules
from excise_agent.attach import Options, Watch

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "workloads"))

from driver import WORKLOADS, start_workload  # noqa: E402

pytestmark = pytest.mark.bpf

FOUR = ("data_loading", "preprocess", "compute", "logging")
PLANTED = ["--unknown", "0.1", "--sleep-ms", "20", "--gil-contention"]
VARIANTS = {"one_thread": ["--model-threads", "1"], "default_pool": ["--model-threads", "default"],
            "renamed": ["--model-threads", "1", "--renamed"]}
WINDOW_S = 15.0
AWAY = ("idle", "handoff", "loader_wait")   # outside of what is shared out
# The loader's feeder threads wait for room in a pipe: the workload counts that as serving, Excise as handoff. So
# both are left out of its shares.
AWAY_BY_WORKLOAD = {"loader": (*AWAY, "serving")}


@dataclass
class Run:
    report: Report
    truth: dict[str, int]
    away: tuple[str, ...] = AWAY

    def share(self, stage: str) -> float:
        """Of busy carrier time, by Excise."""
        return self.report.stage_ns(stage) / self._busy

    def error(self, stage: str) -> float:
        return (self.report.stages_se_ns[stage] or 0) / self._busy

    @property
    def _busy(self) -> int:
        return self.report.total_ns() - sum(self.report.stage_ns(s) for s in self.away if s in self.report.stages)

    def true_share(self, *stages: str) -> float:
        busy = sum(ns for name, ns in self.truth.items() if name not in self.away)
        return sum(self.truth.get(stage, 0) for stage in stages) / busy

    def lines(self) -> str:
        out = [f"{'stage':14}{'excise':>9}{'3 se':>7}{'truth':>9}"]
        out += [f"{s:14}{100 * self.share(s):8.1f}%{300 * self.error(s):6.1f}%{100 * self.true_share(s):8.1f}%"
                for s in (*FOUR, "postprocess", "serving", "runtime")]
        out.append(f"{'unattributed':14}{100 * self.share('unattributed'):8.1f}%{'':7}"
                   f"{100 * self.true_share('unknown', 'sleep'):8.1f}%  {self.report.quality['unattributed']}")
        rows = [f"  {r.ns / 1e6:7.0f} ms {r.stage} {r.state} {r.wait}: "
                + " < ".join(f"{Path(f.file).name}:{f.name}" for f in r.frames[:7])
                for r in self.report.stacks if r.carrier and r.stage == "unattributed"][:12]
        return "\n".join(["", *out, *rows])


def measure(name: str, options: list[str]) -> Run:
    with start_workload(name, options) as workload:
        workload.ready()
        session = Session(Rules.load(system_dir=None))
        watch = Watch(Options(pid=workload.pid, duration_s=WINDOW_S, budget_ratio=None), session.feed)
        try:
            with workload.chronicle() as chronicle:
                watch.start()
                watch.run()
        finally:
            watch.close()
        report = build_report(session)
        truth = chronicle.between(report.start_mono_ns, report.start_mono_ns + report.duration_ns)
    return Run(report, truth, AWAY_BY_WORKLOAD.get(name, AWAY))


@pytest.fixture(scope="module", params=WORKLOADS)
def runs(request: pytest.FixtureRequest) -> Iterator[dict[str, Run]]:
    yield {variant: measure(request.param, [*PLANTED, *options]) for variant, options in VARIANTS.items()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_stage_is_near_the_workloads_own_clock(runs: dict[str, Run], variant: str) -> None:
    run = runs[variant]
    print(run.lines())
    for stage in FOUR:
        off = abs(run.share(stage) - run.true_share(stage))
        assert off <= max(0.03, 3 * run.error(stage)), f"{stage}: {run.lines()}"


@pytest.mark.parametrize("variant", VARIANTS)
def test_planted_unknown_work_and_sleep_come_out_unattributed(runs: dict[str, Run], variant: str) -> None:
    run = runs[variant]
    planted = run.true_share("unknown", "sleep")
    spread = 3 * math.hypot(*(run.error(s) for s in ("unattributed",)))
    assert run.share("unattributed") >= planted - max(0.03, spread), run.lines()
    assert run.share("unattributed") <= planted + max(0.05, spread), run.lines()


def test_names_of_user_functions_do_not_matter(runs: dict[str, Run]) -> None:
    plain, renamed = runs["one_thread"], runs["renamed"]
    for stage in FOUR:
        moved = renamed.share(stage) - plain.share(stage) - (renamed.true_share(stage) - plain.true_share(stage))
        noise = 3 * math.hypot(plain.error(stage), renamed.error(stage))
        assert abs(moved) <= max(0.02, noise), f"{stage}: {plain.lines()}{renamed.lines()}"


def test_the_readers_own_checks_hold(runs: dict[str, Run]) -> None:
    for run in runs.values():
        quality: dict[str, Any] = run.report.quality
        assert quality["lost"] == {"ring_full": 0} or not quality["lost"]["ring_full"]
        assert 0.99 <= quality["schedstat"]["running_ratio"] <= 1.01
