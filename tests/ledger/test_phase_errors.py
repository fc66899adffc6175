"""What was seen in phases has an error that holds the truth as often as it says, and no error where all was seen."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from streams import END, HEADER, PID, SECOND, definitions, report_of, sample, slices, totals, waited

from excise.batch import PHASE_GROUPS, SLICE_PHASE_SHIFT, Batch, Item, Totals
from excise.frames import Thread
from excise.report import Report

MAIN = Thread(PID, PID, "main", True)
PHASES = 40


def report(phases: list[dict[str, int]], total_ns: int) -> Report:
    """Blocked time by stage, phase by phase; of `total_ns` in all."""
    items: list[Item] = [HEADER, definitions([MAIN])]
    for i, seen in enumerate(phases):
        group = i % PHASE_GROUPS + 1
        rows = [waited(stage, "lock", ns, flags=group << SLICE_PHASE_SHIFT, thinned=256) for stage, ns in seen.items()]
        items.append(Batch(SECOND, 11 * SECOND, slices(*rows, *(() if i else (sample("compute", 9),)))))
    return report_of([*items, Totals(SECOND, 11 * SECOND, totals({"lock": total_ns, "running": 100})), END])


def clustered(rng: np.random.Generator, truth: float) -> list[dict[str, int]]:
    """In each phase a thread is mostly in one stage."""
    out = []
    for _ in range(PHASES):
        mostly = rng.random() < truth
        ns = int(rng.exponential(1e6)) + 1000
        share = rng.uniform(0.9, 1.0) if mostly else rng.uniform(0.0, 0.1)
        out.append({"preprocess": int(ns * share), "logging": ns - int(ns * share)})
    return out


def expected(truth: float) -> float:
    return 0.95 * truth + 0.05 * (1 - truth)


def test_the_error_holds_the_truth_as_often_as_it_says() -> None:
    rng, held, n = np.random.default_rng(11), 0, 120
    for _ in range(n):
        truth = rng.uniform(0.2, 0.8)
        found = report(clustered(rng, truth), 10**9)
        error = found.stages_se_ns["preprocess"]
        assert error is not None
        held += abs(found.stage_ns("preprocess") - expected(truth) * 1e9) <= 2 * error
    assert 0.85 <= held / n <= 0.99


def test_what_was_seen_whole_has_no_error_of_phases() -> None:
    rows: NDArray[np.void] = slices(waited("preprocess", "lock", 700), waited("logging", "lock", 300))
    found = report_of([HEADER, definitions([MAIN]), Batch(SECOND, 11 * SECOND, rows),
                       Totals(SECOND, 11 * SECOND, totals({"lock": 1000})), END])
    assert found.stages_se_ns["preprocess"] == 0


def test_one_phase_is_as_unsure_as_a_coin() -> None:
    found = report([{"preprocess": 500, "logging": 500}], 10**9)
    assert found.stages_se_ns["preprocess"] == pytest.approx(5e8, rel=0.01)
