"""Splits of exact totals: they lose nothing and add nothing, and say how sure they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from excise.ledger.classes import CLASS_ID, CLASSES, LOST, NO_SAMPLE, NO_STACK, class_id
from excise.ledger.estimate import MIN_SAMPLES, RunningSplit, split_running, split_stolen
from excise.ledger.waits import split_waits
from excise.names import KERNEL_STATE_ID, KERNEL_STATES

S, C = len(KERNEL_STATES), len(CLASSES)
RUNNING, STOLEN, LOCK = (KERNEL_STATE_ID[s] for s in ("running", "stolen", "lock"))
SHARED_OUT = [i for i in range(S) if i not in (RUNNING, STOLEN)]
PREPROCESS, LOGGING = CLASS_ID["preprocess", None], CLASS_ID["logging", None]
ns = st.integers(0, 10**13)     # about three hours
shapes = st.integers(1, 5)


def arrays(shape: tuple[int, ...], low: int = 0, high: int = 10**13) -> st.SearchStrategy[NDArray[np.int64]]:
    return hnp.arrays(np.int64, shape, elements=st.integers(low, high), fill=st.just(0))


@given(shapes.flatmap(lambda t: st.tuples(arrays((t, S)), arrays((t, S, C), low=-(10**10)))), st.booleans())
@settings(deadline=None)
def test_waits_keep_every_threads_totals(both: tuple[NDArray[np.int64], NDArray[np.int64]], some_lost: bool) -> None:
    totals, records = both
    out = split_waits(totals, records, some_lost).ns
    assert (out >= 0).all()
    assert np.abs(out.sum(axis=2) - totals)[:, SHARED_OUT].max() < 1
    assert not out[:, [RUNNING, STOLEN]].any()


@given(shapes.flatmap(lambda t: st.tuples(arrays((t, S)), arrays((t, S, C), low=-(10**10)))))
@settings(deadline=None)
def test_nothing_is_lost_when_no_record_was(both: tuple[NDArray[np.int64], NDArray[np.int64]]) -> None:
    totals, records = both
    records[:, :, LOST] = 0
    assert not split_waits(totals, records, some_lost=False).ns[:, :, LOST].any()


def one_wait(total: int, some_lost: bool, **records: int) -> dict[str, float]:
    totals, sums = np.zeros((1, S), np.int64), np.zeros((1, S, C), np.int64)
    totals[0, LOCK] = total
    for stage, recorded in records.items():
        sums[0, LOCK, CLASS_ID[stage, None]] = recorded
    out = split_waits(totals, sums, some_lost).ns[0, LOCK]
    return {part or stage: float(out[c]) for c, (stage, part) in enumerate(CLASSES) if out[c]}


def test_what_the_records_do_not_cover_is_lost_when_some_were() -> None:
    assert one_wait(100, True, logging=30, serving=10) == {"logging": 30, "serving": 10, "lost": 60}


def test_without_losses_the_records_share_out_the_whole_total() -> None:
    assert one_wait(100, False, logging=30, serving=10) == {"logging": 75, "serving": 25}


def test_records_that_say_more_than_the_total_are_scaled_down() -> None:
    assert one_wait(100, True, logging=300, serving=100) == {"logging": 75, "serving": 25}


def test_a_wait_without_any_record_has_no_stack_and_was_not_lost() -> None:
    assert one_wait(100, False) == {"no_stack": 100}
    assert one_wait(100, True) == {"lost": 100}


def test_a_negative_sum_is_no_time() -> None:
    assert one_wait(100, False, logging=50, serving=-10) == {"logging": 100}


@given(shapes.flatmap(lambda t: st.tuples(arrays((t,)), arrays((t, C)))))
@settings(deadline=None)
def test_stolen_time_is_all_shared_out(both: tuple[NDArray[np.int64], NDArray[np.int64]]) -> None:
    stolen, running = both
    out = split_stolen(stolen, running.astype(np.float64))
    assert (out >= 0).all() and np.abs(out.sum(axis=1) - stolen).max() < 1


def test_stolen_time_is_split_as_the_running_time_that_it_was_taken_from() -> None:
    running = np.zeros((2, C))
    running[0, [PREPROCESS, LOGGING]] = 30, 10
    out = split_stolen(np.array([8, 5]), running)
    assert out[0, PREPROCESS] == 6 and out[0, LOGGING] == 2 and out[1, NO_SAMPLE] == 5


def split(
    running: list[int], samples: NDArray[np.int64], strata: list[tuple[int, str]], carrier: list[bool] | None = None
) -> RunningSplit:
    """`samples` (T, C): all in user mode."""
    both = np.stack([samples, np.zeros_like(samples)], axis=2)
    everyone = np.ones(len(running), bool) if carrier is None else np.array(carrier)
    return split_running(np.array(running), np.zeros(len(running), np.int64), both, strata, everyone)


def counts(threads: int, **by_stage: list[int]) -> NDArray[np.int64]:
    out = np.zeros((threads, C), np.int64)
    for stage, column in by_stage.items():
        out[:, CLASS_ID[stage, None]] = column
    return out


threads_strategy = st.lists(
    st.tuples(ns, st.lists(st.integers(0, 6) | st.integers(0, 5000), min_size=2 * C, max_size=2 * C),
              st.tuples(st.integers(1, 2), st.sampled_from(["main", "worker", "io"])), st.booleans(), st.booleans()),
    min_size=1, max_size=8)


@given(threads_strategy)
@settings(deadline=None)
def test_running_time_is_all_shared_out_whatever_was_sampled(threads: list[tuple]) -> None:
    running = np.array([t[0] for t in threads])
    samples = np.array([t[1] if t[3] else [0] * 2 * C for t in threads]).reshape(len(threads), C, 2)
    out = split_running(running, np.zeros_like(running), samples, [t[2] for t in threads],
                        np.array([t[4] for t in threads]))
    assert (out.ns >= 0).all() and (out.sample_ns >= 0).all()
    assert np.abs(out.ns.sum(axis=(1, 2)) - running).max() < 1
    assert np.allclose(out.covariance, out.covariance.T)
    assert out.variance(np.ones(C)) <= 1e-6 * float(running.sum()) ** 2   # the sum of all classes is no estimate


def test_time_without_any_sample_is_called_that() -> None:
    out = split([100, 50], counts(2), [(1, "a"), (1, "b")])
    assert out.ns[:, NO_SAMPLE, 0].tolist() == [100, 50]
    assert not out.sample_ns.any() and not out.covariance.any()


def test_a_thread_is_split_by_its_own_samples_whoever_bears_its_name() -> None:
    out = split([100, 300], counts(2, preprocess=[8, 0], logging=[0, 9]), [(1, "w"), (1, "w")])
    assert out.ns[:, PREPROCESS, 0].tolist() == [100, 0] and out.ns[:, LOGGING, 0].tolist() == [0, 300]


def test_a_thread_with_few_samples_is_split_like_those_of_its_name() -> None:
    out = split([100, 300], counts(2, preprocess=[8, 0], logging=[0, 2]), [(1, "w"), (1, "w")])
    assert out.ns[:, PREPROCESS, 0].tolist() == [100, 240] and out.ns[:, LOGGING, 0].tolist() == [0, 60]


def test_few_samples_of_one_name_stand_for_all_of_it() -> None:
    out = split([100, 300], counts(2, preprocess=[4, 0], logging=[0, 4]), [(1, "w"), (1, "w")])
    assert out.ns[:, PREPROCESS, 0].tolist() == [50, 150] and out.ns[:, LOGGING, 0].tolist() == [50, 150]
    assert out.sample_ns.tolist() == [50, 50]


def test_user_and_kernel_time_are_told_apart_by_samples() -> None:
    samples = np.zeros((1, C, 2), np.int64)
    samples[0, LOGGING] = 6, 2
    out = split_running(np.array([80]), np.array([0]), samples, [(1, "w")], np.array([True]))
    assert out.ns[0, LOGGING].tolist() == [60, 20]


def test_small_strata_of_a_process_are_merged() -> None:
    samples = counts(3, preprocess=[3, 0, 90], logging=[0, 3, 0])
    out = split([100, 100, 100], samples, [(1, "a"), (1, "b"), (1, "c")])
    assert out.ns[:2, PREPROCESS, 0].tolist() == [50, 50] and out.ns[2, PREPROCESS, 0] == 100


def test_small_strata_that_stay_small_borrow_from_their_process() -> None:
    samples = counts(3, preprocess=[1, 3, 0], logging=[0, 0, 4 * MIN_SAMPLES - 4])
    out = split([100, 160, 40], samples, [(1, "a"), (1, "c"), (1, "b")])
    assert out.ns[0, PREPROCESS, 0] == 20 and out.ns[0, LOGGING, 0] == 80
    assert out.ns[2, LOGGING, 0] == 40, "who lends is not changed"


def test_a_process_without_enough_samples_borrows_from_everyone() -> None:
    samples = counts(2, preprocess=[2, 0], logging=[0, 8])
    out = split([100, 100], samples, [(1, "a"), (2, "a")])
    assert out.ns[0, PREPROCESS, 0] == 20 and out.ns[0, LOGGING, 0] == 80 and out.ns[1, LOGGING, 0] == 100


def test_helpers_lend_nothing_to_carriers() -> None:
    samples = counts(2, preprocess=[1, 0], logging=[0, 1000])
    out = split([100, 100], samples, [(1, "w"), (1, "w")], carrier=[True, False])
    assert out.ns[0, PREPROCESS, 0] == 100 and out.ns[1, LOGGING, 0] == 100
    alone = split([100, 100], counts(2, logging=[0, 1000]), [(1, "w"), (1, "w")], carrier=[True, False])
    assert alone.ns[0, NO_SAMPLE, 0] == 100


def bootstrapped(
    running: list[int], samples: NDArray[np.int64], strata: list[tuple[int, str]], factors: NDArray[np.float64],
    draws: int = 3000,
) -> float:
    """Standard deviation of the carriers' sum when each stratum's samples are drawn anew from what they were."""
    random = np.random.default_rng(7)
    groups = sorted(set(strata))
    out = []
    for _ in range(draws):
        drawn = np.zeros_like(samples)
        for group in groups:
            members = [i for i, s in enumerate(strata) if s == group]
            flat = samples[members].reshape(-1)
            if flat.sum():
                drawn[members] = random.multinomial(flat.sum(), flat / flat.sum()).reshape(len(members), C)
        out.append(float(split(running, drawn, strata).ns.sum(axis=(0, 2)) @ factors))
    return float(np.std(out))


GPU, LAUNCH, CPU = (class_id("compute", f"compute.{part}", None) for part in ("gpu", "launch", "cpu"))


def _mix(threads: int, seed: int, per_thread: list[int]) -> NDArray[np.int64]:
    random = np.random.default_rng(seed)
    out = np.zeros((threads, C), np.int64)
    for i, n in enumerate(per_thread):
        out[i, [PREPROCESS, LOGGING, GPU, LAUNCH, CPU]] = random.multinomial(n, random.dirichlet([2] * 5))
    return out


CASES = {
    "one stratum": ([10**9] * 3, [200, 300, 150], [(1, "w")] * 3),
    "strata apart": ([10**9, 4 * 10**9, 10**8], [200, 120, 300], [(1, "a"), (1, "b"), (2, "a")]),
    "one borrows": ([10**9, 10**9], [400, 2], [(1, "a"), (1, "b")]),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("what", ["a stage", "a stage in parts", "a difference"])
def test_the_standard_error_is_what_drawing_again_gives(case: str, what: str) -> None:
    running, per_thread, strata = CASES[case]
    samples = _mix(len(running), 3, per_thread)
    factors = np.zeros(C)
    if what == "a stage":
        factors[PREPROCESS] = 1
    else:
        factors[[GPU, LAUNCH, CPU]] = 1
    if what == "a difference":
        factors[LOGGING] = -0.5
    error = split(running, samples, strata).variance(factors) ** 0.5
    assert error == pytest.approx(bootstrapped(running, samples, strata, factors), rel=0.1)


def test_helpers_samples_add_nothing_to_the_error() -> None:
    samples = counts(2, preprocess=[50, 500], logging=[50, 500])
    factors = np.eye(C)[PREPROCESS]
    both = split([100, 10**6], samples, [(1, "a"), (1, "b")], carrier=[True, False])
    assert both.variance(factors) == pytest.approx(split([100], samples[:1], [(1, "a")]).variance(factors))


def test_every_class_has_its_number() -> None:
    assert class_id("compute", None, None) == CLASS_ID["compute", "compute.cpu"]
    assert class_id("unattributed", None, None) == CLASS_ID["unattributed", "no_rule"]
    assert len({LOST, NO_SAMPLE, NO_STACK}) == 3
    assert [class_id(s, p if s == "compute" else None, p if s == "unattributed" else None)
            for s, p in CLASSES] == list(range(C))
