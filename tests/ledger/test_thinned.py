"""Waits of which the governor left records out: estimates are unbiased, errors are what drawing again gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from streams import PID, nonzero, report_of, sample, slices, stream, totals, waited

from excise.frames import Thread
from excise.ledger.classes import CLASS_ID, CLASSES, LOST, NO_SAMPLE
from excise.ledger.estimate import split_running
from excise.ledger.waits import Thinned, split_waits, total_errors
from excise.names import KERNEL_STATE_ID, KERNEL_STATES
from excise.records import WEIGHT_ONE

S, C = len(KERNEL_STATES), len(CLASSES)
LOCK, NET = KERNEL_STATE_ID["lock"], KERNEL_STATE_ID["net"]
PREPROCESS, LOGGING, SERVING = (CLASS_ID[s, None] for s in ("preprocess", "logging", "serving"))
FACTORS = np.eye(C)[LOGGING] - 0.3 * np.eye(C)[SERVING]


def evidence(counts: NDArray[np.int64], variances: NDArray[np.float64], names: list[str] | None = None,
             carrier: list[bool] | None = None) -> Thinned:
    n = len(counts)
    return Thinned(counts, variances, [(1, name) for name in names or [f"t{i}" for i in range(n)]],
                   np.ones(n, bool) if carrier is None else np.array(carrier))


class Server:
    """Two threads that wait for locks, in known classes and lengths; `sent` thins them as the probes do."""

    def __init__(self, seed: int, threads: int, waits: int) -> None:
        random = np.random.default_rng(seed)
        self.length = np.exp(random.normal(11, 1.2, (threads, waits))).astype(np.int64)
        self.class_ = random.choice([PREPROCESS, LOGGING, SERVING], (threads, waits), p=[0.5, 0.3, 0.2])
        self.totals = np.zeros((threads, S), np.int64)
        self.totals[:, LOCK] = self.length.sum(axis=1)

    def truth(self) -> NDArray[np.float64]:
        return np.bincount(self.class_.ravel(), weights=self.length.ravel(), minlength=C)

    def sent(self, random: np.random.Generator, walk: int, threshold_ns: int) -> tuple[NDArray[np.int64], Thinned]:
        p = np.minimum(self.length / threshold_ns, 1) / walk
        kept = random.random(p.shape) < p
        weight = np.rint(WEIGHT_ONE / p) / WEIGHT_ONE
        records, variances = np.zeros((len(p), S, C)), np.zeros((len(p), S, C))
        for t in range(len(p)):
            at, ns, w = self.class_[t][kept[t]], self.length[t][kept[t]], weight[t][kept[t]]
            records[t, LOCK] = np.bincount(at, weights=ns * w, minlength=C)
            variances[t, LOCK] = np.bincount(at, weights=ns**2 * w * (w - 1), minlength=C)
        counts = np.zeros((len(p), S), np.int64)
        counts[:, LOCK] = kept.sum(axis=1)
        return np.rint(records).astype(np.int64), evidence(counts, variances, ["w"] * len(p))


@pytest.mark.parametrize(("walk", "threshold_ns"), [(4, 1), (1, 300_000), (3, 200_000)])
@pytest.mark.parametrize(("threads", "waits"), [(2, 2000), (60, 20)])
def test_shares_are_unbiased_and_their_errors_true(walk: int, threshold_ns: int, threads: int, waits: int) -> None:
    server, random = Server(3, threads, waits), np.random.default_rng(5)
    found, errors = [], []
    for _ in range(400):
        records, thinned = server.sent(random, walk, threshold_ns)
        out = split_waits(server.totals, records, False, thinned)
        assert np.abs(out.ns.sum(axis=2) - server.totals).max() < 1
        found.append(out.ns.sum(axis=(0, 1)))
        errors.append(float(np.sqrt(FACTORS @ out.covariance @ FACTORS)))
    estimates = np.array(found)
    spread = estimates.std(axis=0)
    for class_ in (PREPROCESS, LOGGING, SERVING):
        bias = estimates[:, class_].mean() - server.truth()[class_]
        small = 0.03 * server.truth()[class_] if waits == 20 else 0.0  # ratio estimates of few records each
        assert abs(bias) < 4 * spread[class_] / np.sqrt(len(found)) + small
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx((estimates @ FACTORS).std(), rel=0.3)


shapes = st.integers(1, 4)


@st.composite
def thinned_waits(draw: st.DrawFn) -> tuple[NDArray[np.int64], NDArray[np.int64], Thinned]:
    t = draw(shapes)
    random = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    scale = draw(st.sampled_from([1, 1000, 10**12]))
    tot = random.integers(0, scale, (t, S)) * random.integers(0, 2, (t, S))
    records = random.integers(-scale // 10, scale, (t, S, C)) * (random.random((t, S, C)) < 0.1)
    counts = random.integers(0, 12, (t, S))
    names = draw(st.lists(st.sampled_from(["a", "b"]), min_size=t, max_size=t))
    carrier = draw(st.lists(st.booleans(), min_size=t, max_size=t))
    return tot, records, evidence(counts, np.abs(records) * 1e3 * random.integers(0, 2, records.shape), names, carrier)


@given(thinned_waits(), st.booleans())
@settings(max_examples=200, deadline=None)
def test_thinned_waits_keep_every_threads_totals(
    case: tuple[NDArray[np.int64], NDArray[np.int64], Thinned], some_lost: bool
) -> None:
    tot, records, thinned = case
    out = split_waits(tot, records, some_lost, thinned)
    shared = [i for i, s in enumerate(KERNEL_STATES) if s not in ("running", "stolen")]
    assert (out.ns >= 0).all()
    assert np.abs(out.ns.sum(axis=2) - tot)[:, shared].max() < 1
    assert np.allclose(out.covariance, out.covariance.T)
    assert np.linalg.eigvalsh(out.covariance).min() >= -1e-6 * max(np.trace(out.covariance), 1)
    if not some_lost:
        assert not out.ns[:, :, LOST].any() or records[:, :, LOST].any()


def lock_split(own: dict[int, int], total: int, count: int, name: str, lender: str, carrier: bool = True
               ) -> NDArray[np.float64]:
    """Of a thread with these records, beside one with 30 ns of logging and 10 of serving, exactly covered."""
    tot, records, counts = np.zeros((2, S), np.int64), np.zeros((2, S, C), np.int64), np.zeros((2, S), np.int64)
    tot[:, LOCK] = total, 40
    for class_, ns in own.items():
        records[0, LOCK, class_] = ns
    records[1, LOCK, [LOGGING, SERVING]] = 30, 10
    counts[:, LOCK] = count, 8
    thinned = evidence(counts, np.zeros((2, S, C)), [name, lender], [carrier, True])
    return split_waits(tot, records, False, thinned).ns[0, LOCK]


def test_a_thread_without_a_record_borrows_from_its_stratum_then_from_its_process() -> None:
    for lender in ("w", "other"):
        out = lock_split({}, 80, 0, "w", lender)
        assert (out[LOGGING], out[SERVING]) == (60, 20)


def test_few_records_stand_and_the_rest_is_borrowed() -> None:
    out = lock_split({PREPROCESS: 10}, 90, 1, "w", "w")
    assert (out[PREPROCESS], out[LOGGING], out[SERVING]) == (pytest.approx(10 + 80 / 5), 48, 16)


def test_records_that_cover_their_total_are_no_few() -> None:
    out = lock_split({PREPROCESS: 70}, 80, 0, "w", "w")
    assert out[PREPROCESS] == 80


def test_enough_records_share_out_a_total_that_they_do_not_cover() -> None:
    assert lock_split({PREPROCESS: 10}, 90, 5, "w", "w")[PREPROCESS] == 90


def test_helpers_borrow_nothing_from_carriers() -> None:
    assert lock_split({}, 80, 0, "w", "w", carrier=False)[NO_SAMPLE] == 80


def test_a_wait_that_nobody_has_a_record_of_has_no_sample_while_records_are_left_out() -> None:
    thin = waited("logging", "lock", 60, thinned=WEIGHT_ONE)
    found = report_of(stream(slices(thin), totals({"lock": 60, "net": 9})))
    assert nonzero(found) == {("logging", "lock"): 60, ("unattributed", "net"): 9}
    assert found.quality["unattributed"] == {"no_rule": 0, "no_sample": 9, "lost": 0, "no_stack": 0}
    lossy = report_of(stream(slices(thin), totals({"lock": 60, "net": 9}), lost={"ring_full": 1}))
    assert lossy.quality["unattributed"]["lost"] == 9


def test_thinned_waits_widen_the_errors_of_the_report() -> None:
    rows = [waited("logging", "lock", 500, count=5), waited("compute", "lock", 500, count=5)]
    exact = report_of(stream(slices(*rows), totals({"lock": 1000})))
    thin = report_of(stream(slices(*({**r, "thinned": WEIGHT_ONE * 5, "weight_var_us2": 1} for r in rows)),
                            totals({"lock": 1000})))
    assert exact.stages_se_ns["logging"] == 0 and exact.ai_tax_se == 0
    assert thin.stages_se_ns["logging"] == round(np.sqrt(0.25e6 + 0.25e6))
    assert thin.ai_tax_se == pytest.approx(np.sqrt(0.5e6) / 1000)
    assert nonzero(thin) == nonzero(exact)


def test_the_error_of_a_total_is_shared_by_its_classes() -> None:
    rows = slices(waited("logging", "net", 300), waited("compute", "net", 100), waited("idle", "lock", 50))
    sums = totals({"net": 400, "lock": 50})
    sums["se_ns"][0, NET] = 40
    found = report_of(stream(rows, sums))
    assert found.stages_se_ns["logging"] == 30 and found.stages_se_ns["compute"] == 10
    assert found.ai_tax_se == pytest.approx(0), "both rise and fall together"
    assert total_errors(sums["se_ns"], np.zeros((1, S, C)), np.array([True])).sum() == 0


def test_a_sample_of_weight_two_counts_twice() -> None:
    rows = slices(sample("preprocess", 10, thinned=10 * WEIGHT_ONE), sample("compute", 20))
    found = report_of(stream(rows, totals({"running": 400})))
    assert nonzero(found) == {("preprocess", "running_user"): 200, ("compute", "running_user"): 200}
    assert found.quality["samples"] == 30
    assert {s.stage: s.ns for s in found.stacks} == {"preprocess": 200, "compute": 200}


def test_weights_of_one_change_nothing() -> None:
    random = np.random.default_rng(2)
    samples = random.integers(0, 50, (3, C, 2))
    names, carriers = [(1, "a"), (1, "a"), (2, "b")], np.array([True, True, False])
    running = np.array([1000, 2000, 3000])
    plain = split_running(running, running // 9, samples, names, carriers)
    same = split_running(running, running // 9, samples, names, carriers, samples.astype(np.float64))
    assert np.array_equal(plain.ns, same.ns) and np.allclose(plain.covariance, same.covariance)


def test_threads_of_other_names_are_told_apart() -> None:
    """A report of two pools whose records were thinned: each borrows from its own."""
    rows = slices(waited("logging", "lock", 100, tid=101, count=9, thinned=256),
                  waited("serving", "lock", 100, tid=103, count=9, thinned=256))
    sums = totals(*({"tid": tid, "lock": 100} for tid in (101, 102, 103, 104)))
    threads = [Thread(tid, PID, name, True)
               for tid, name in ((101, "log-1"), (102, "log-2"), (103, "web-1"), (104, "web-2"))]
    found = report_of(stream(rows, sums, threads))
    assert {t.tid: {s: ns for s, ns in t.stages_ns.items() if ns} for t in found.threads} == {
        101: {"logging": 100}, 102: {"logging": 100}, 103: {"serving": 100}, 104: {"serving": 100}}
