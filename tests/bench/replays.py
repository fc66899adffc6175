"""A recording of a run, read again: the report that the user would have seen, and what was lost."""

from __future__ import annotations

from pathlib import Path

from excise.ledger.build import build_report
from excise.names import KERNEL_STATE_ID
from excise.recording import Recording
from excise.report import Report, ThreadRow
from excise.session import Session
from excise.stages import Rules

BURST_RULES = Path(__file__).parent / "targets" / "burst.toml"
BURST_STAGES = ("preprocess", "compute", "logging")


class Replay:
    def __init__(self, recording: Path, *rules: Path) -> None:
        self.session = Session(Rules.load(rules, system_dir=None))
        for item in Recording(recording).items():
            self.session.feed(item)
        self.report: Report = build_report(self.session)

    @property
    def waits(self) -> int:
        """Records of ended waits that came through."""
        slices = self.session.slices()
        return int(slices["count"][slices["state"] != KERNEL_STATE_ID["running"]].sum())

    @property
    def drops(self) -> dict[str, int]:
        """By name, those that happened."""
        return {name: count for name, count in self.session.lost.items() if count}

    def stage_shares(self, waiting: bool = False) -> dict[str, float]:
        """Of the burst's three stages, in all states; `waiting`: without the states on a CPU, which samples split."""
        ns = {
            stage: sum(
                ns or 0
                for state, ns in self.report.stages[stage].items()
                if not (waiting and state.startswith("running"))
            )
            for stage in BURST_STAGES
        }
        return {stage: ns[stage] / max(sum(ns.values()), 1) for stage in BURST_STAGES}

    def off_schedstat(self) -> tuple[float, float]:
        """Running and run-queue time: how far our totals are from the scheduler's, all threads together; ratios."""
        return self._off("running", "sched_running_ns"), self._off("runnable", "sched_runnable_ns")

    def _off(self, state: str, theirs: str) -> float:
        known: list[ThreadRow] = [t for t in self.report.threads if getattr(t, theirs) is not None]
        truth = sum(getattr(t, theirs) for t in known)
        return sum(t.states_ns[state] for t in known) / truth - 1 if truth else 0.0
