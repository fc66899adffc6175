"""From hand-made streams to the report: who counts, where each nanosecond goes, what is said of the rest."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import (
    END,
    HEADER,
    PID,
    SECOND,
    STACKS,
    definitions,
    nonzero,
    report_of,
    sample,
    session_of,
    slices,
    stream,
    totals,
    waited,
)

from excise.batch import SLICE_FAULT, SLICE_KERNEL_MODE, Batch, Definitions, Header, HostSample, Totals
from excise.frames import Frame, Process, Thread
from excise.ledger.build import build_report
from excise.names import KERNEL_STATES, STAGES, STATES, SUBSTAGES, UNATTRIBUTED
from excise.report import SCHEMA, Report, to_json

MAIN = Thread(PID, PID, "main", True)
WORKER = Thread(101, PID, "pool-3", False)


def simple() -> Report:
    return report_of(stream(
        slices(sample("preprocess", 30), sample("compute.gpu", 60), sample("logging", 10, flags=SLICE_KERNEL_MODE),
               waited("data_loading", "io", 200, 20), waited("compute.gpu", "gil", 40), waited("idle", "net", 1000),
               waited("handoff", "lock", 300)),
        totals({"running": 1000, "io": 200, "gil": 40, "net": 1000, "lock": 300, "runnable": 20}),
    ))


def test_samples_and_waits_go_to_their_stage_and_state() -> None:
    assert nonzero(simple()) == {
        ("data_loading", "io"): 200, ("data_loading", "runnable"): 20,
        ("preprocess", "running_user"): 300, ("logging", "running_kernel"): 100,
        ("compute", "running_user"): 600, ("compute", "gil"): 40,
        ("idle", "net"): 1000, ("handoff", "lock"): 300,
    }


def test_the_ai_tax_is_what_is_left_of_busy_time_beside_compute() -> None:
    report = simple()
    assert report.ai_tax_ratio == pytest.approx(1 - 640 / (2560 - 1000 - 300))
    assert report.ai_tax_se is not None and report.ai_tax_se > 0


def test_the_ai_tax_is_none_when_nothing_is_left_to_divide_by() -> None:
    idle = report_of(stream(slices(waited("idle", "net", 50), waited("handoff", "lock", 5)),
                            totals({"net": 50, "lock": 5})))
    assert idle.ai_tax_ratio is None and idle.ai_tax_se is None
    assert report_of([HEADER, END]).ai_tax_ratio is None


def test_the_taxs_error_is_as_wide_as_its_samples_are_few() -> None:
    few = report_of(stream(slices(sample("preprocess", 50), sample("compute", 50)), totals({"running": 10_000})))
    many = report_of(stream(slices(sample("preprocess", 5000), sample("compute", 5000)), totals({"running": 10_000})))
    assert few.ai_tax_se == pytest.approx(0.05) and many.ai_tax_se == pytest.approx(0.005)
    assert few.stages_se_ns["compute"] == 500 and few.stages_se_ns["serving"] == 0


def test_parts_of_compute_do_not_widen_the_error_of_compute() -> None:
    parts = report_of(stream(
        slices(sample("compute.gpu", 25), sample("compute.cpu", 25), sample("preprocess", 50)),
        totals({"running": 10_000})))
    assert parts.stages_se_ns["compute"] == 500
    assert parts.substages["compute.gpu"]["running_user"] == parts.substages["compute.cpu"]["running_user"] == 2500


def test_helpers_have_a_ledger_of_their_own_and_no_share_in_the_stages() -> None:
    native = Definitions([Frame("native", "/lib/libgomp.so.1", "compute")], [(len(STACKS),)])
    helper_stack = len(STACKS) + 1
    rows = slices(sample("preprocess", 10), sample("compute", 990, tid=101))
    rows["stack"][1] = helper_stack
    items = stream(rows, totals({"running": 100}, {"tid": 101, "running": 900, "lock": 50}), [MAIN, WORKER])
    items.insert(2, native)
    report = report_of(items)
    assert nonzero(report) == {("preprocess", "running_user"): 100}
    (helper,) = report.helpers
    assert (helper.library, helper.threads, helper.cpu_ns) == ("libgomp.so.1", 1, 900)
    assert helper.states_ns == {**dict.fromkeys(KERNEL_STATES, 0), "running": 900, "lock": 50}
    assert report.quality["samples"] == 1000 and report.quality["carrier_samples"] == 10
    assert {t.tid: (t.carrier, bool(t.stages_ns)) for t in report.threads} == {PID: (True, True), 101: (False, False)}


def test_a_thread_that_was_seen_in_python_is_a_carrier_whatever_its_definition_says() -> None:
    report = report_of(stream(slices(waited("serving", "net", 10, tid=101)), totals({"tid": 101, "net": 10}), [WORKER]))
    assert nonzero(report) == {("serving", "net"): 10} and report.helpers == ()


def test_without_an_interpreter_every_thread_but_a_pools_is_a_carrier() -> None:
    rows = slices(waited("no_rule", "net", 10), waited("no_rule", "lock", 20, tid=101))
    rows["stack"] = len(STACKS) + 1, len(STACKS) + 2
    items = stream(rows, totals({"net": 10}, {"tid": 101, "lock": 20}), [replace(MAIN, carrier=False), WORKER],
                   python=None)
    own, pool = Frame("native", "/opt/server", "serving"), Frame("native", "/lib/libgomp.so.1", "compute")
    items.insert(2, Definitions([own, pool], [(len(STACKS),), (len(STACKS) + 1,)]))
    report = report_of(items)
    assert nonzero(report) == {("serving", "net"): 10}
    assert [h.library for h in report.helpers] == ["libgomp.so.1"]


def test_a_process_whose_interpreter_cannot_be_read_has_no_carriers_by_default_and_says_why() -> None:
    report = report_of(stream(slices(waited("serving", "net", 10)), totals({"net": 10, "tid": 101}), [WORKER],
                              python=None, note="too old"))
    assert [t.carrier for t in report.threads] == [False]
    assert report.notes == (f"process {PID} (python): too old",)


@pytest.mark.parametrize(("rows", "sums", "lost", "reason"), [
    (slices(waited("no_rule", "lock", 7)), totals({"lock": 7}), {}, "no_rule"),
    (slices(), totals({"running": 7}), {}, "no_sample"),
    (slices(), totals({"lock": 7}), {"ring_full": 3}, "lost"),
    (slices(), totals({"lock": 7}), {}, "no_stack"),
    (slices({"state": "lock", "weight_ns": 7}), totals({"lock": 7}), {}, "no_stack"),
], ids=["no_rule", "no_sample", "lost", "no_record", "no_stack"])
def test_time_without_a_stage_says_why(
    rows: np.ndarray, sums: np.ndarray, lost: dict[str, int], reason: str
) -> None:
    report = report_of(stream(rows, sums, lost=lost))
    assert report.quality["unattributed"] == {**dict.fromkeys(UNATTRIBUTED, 0), reason: 7}
    assert report.quality["unattributed_ratio"] == 1 and report.stage_ns("unattributed") == 7
    assert [(s.reason, s.ns) for s in report.stacks] == [(reason, 7)]


def test_a_lost_record_changes_no_total() -> None:
    rows, sums = slices(waited("logging", "lock", 60)), totals({"lock": 100})
    whole, lossy = report_of(stream(rows, sums)), report_of(stream(rows, sums, lost={"ring_full": 1}))
    assert nonzero(whole) == {("logging", "lock"): 100}
    assert nonzero(lossy) == {("logging", "lock"): 60, ("unattributed", "lock"): 40}
    assert lossy.quality["lost"] == {"ring_full": 1} and whole.quality["lost"] == {"ring_full": 0}


def test_without_sampling_running_time_has_no_sample_and_kernel_time_is_not_measured() -> None:
    report = report_of(stream(slices(waited("serving", "net", 5)), totals({"running": 100, "net": 5}),
                              header=replace(HEADER, rate_hz=0.0)))
    assert report.stages["unattributed"]["running_user"] == 100
    assert report.quality["unattributed"]["no_sample"] == 100
    assert {row["running_kernel"] for row in (*report.stages.values(), *report.substages.values())} == {None}
    assert set(report.stages_se_ns.values()) == {None} and report.ai_tax_se is None
    assert report.ai_tax_ratio == 1


def test_stolen_time_goes_where_the_running_time_went_that_it_was_taken_from() -> None:
    report = report_of(stream(slices(sample("preprocess", 30), sample("compute", 10)),
                              totals({"running": 400, "stolen": 40})))
    assert report.stages["preprocess"]["stolen"] == 30 and report.stages["compute"]["stolen"] == 10


def test_waiting_for_the_gil_or_a_cpu_is_of_the_stage_that_wants_to_run() -> None:
    report = report_of(stream(
        slices(waited("no_rule", "lock", 5, 3), waited("preprocess", "gil", 7), waited("logging", "runnable", 9)),
        totals({"lock": 5, "runnable": 12, "gil": 7})))
    assert nonzero(report) == {("unattributed", "lock"): 5, ("unattributed", "runnable"): 3, ("preprocess", "gil"): 7,
                               ("logging", "runnable"): 9}


def test_a_waits_words_name_the_call_and_what_it_waited_on() -> None:
    report = report_of(stream(
        slices(waited("serving", "net", 30, syscall=0, fd_class=6, fd=4),
               waited("serving", "lock", 20, syscall=202), waited("serving", "io", 10, flags=SLICE_FAULT)),
        totals({"net": 30, "lock": 20, "io": 10})))
    assert [s.wait for s in report.stacks] == ["read pipe", "futex", "page fault"]


def test_threads_show_their_exact_totals_beside_schedstats() -> None:
    report = report_of(stream(
        slices(sample("preprocess", 3), sample("logging", 7)),
        totals({"running": 100, "lock": 5, "sched_running_ns": 104, "sched_runnable_ns": 0}, {"tid": 101, "net": 9}),
        [MAIN, WORKER]))
    main, worker = report.threads
    assert (main.pid, main.tid, main.name, main.samples, main.lifetime_ns) == (PID, PID, "main", 10, 105)
    assert main.states_ns == {**dict.fromkeys(KERNEL_STATES, 0), "running": 100, "lock": 5}
    assert main.stages_ns["logging"] == 70 and sum(main.stages_ns.values()) == 105
    assert (main.sched_running_ns, main.sched_runnable_ns) == (104, 0)
    assert (worker.sched_running_ns, worker.sched_runnable_ns) == (None, None)
    assert report.quality["schedstat"] == {"running_ratio": 100 / 104, "runnable_ratio": None}


def test_totals_of_a_thread_that_was_never_defined_count_without_a_name() -> None:
    report = report_of(stream(slices(waited("serving", "net", 10, tid=77)), totals({"tid": 77, "net": 10}), []))
    assert [(t.tid, t.name, t.carrier) for t in report.threads] == [(77, "", True)]
    assert nonzero(report) == {("serving", "net"): 10}


def test_slices_of_a_thread_without_totals_add_no_time() -> None:
    report = report_of(stream(slices(waited("serving", "net", 10, tid=77), sample("logging", 9, tid=77)),
                              totals({"net": 10})))
    assert {t.tid for t in report.threads} == {PID} and report.quality["samples"] == 0


def test_a_definition_of_another_process_does_not_name_a_thread() -> None:
    report = report_of(stream(slices(), totals({"net": 10}), [Thread(PID, 999, "other", True)]))
    assert [(t.name, t.carrier) for t in report.threads] == [("", False)]


def test_a_stream_that_was_cut_off_says_so() -> None:
    report = report_of(stream(slices(), totals({"net": 10}))[:-1])
    assert report.end_reason == "cut off" and report.overhead == {} and "cut off" in report.notes[0]


def test_a_stream_without_a_header_is_refused() -> None:
    with pytest.raises(ValueError, match="no header"):
        build_report(session_of([END]))


def test_two_processes_do_not_share_threads_or_samples() -> None:
    items = stream(slices(sample("preprocess", 10), sample("logging", 10, pid=200, tid=200)),
                   totals({"running": 100}, {"pid": 200, "tid": 200, "running": 300}),
                   [MAIN, Thread(200, 200, "main", True)])
    items.insert(2, Definitions(processes=[Process(200, 8, "python", "3.11.7", PID)]))
    assert nonzero(report_of(items)) == {("preprocess", "running_user"): 100, ("logging", "running_user"): 300}


# -- any stream

big = st.integers(0, 10**12)
small_negative = st.integers(-50_000, -1)
state_names = st.sampled_from([s for s in KERNEL_STATES if s not in ("running", "stolen")])
tids = st.sampled_from([PID, 101, 102])
any_rows = st.lists(st.one_of(
    st.builds(lambda stack, n, tid, mode: sample(stack, n, tid=tid, flags=mode),
              st.sampled_from(STACKS), st.integers(1, 200), tids, st.sampled_from([0, SLICE_KERNEL_MODE])),
    st.builds(lambda stack, state, ns, queue, tid: waited(stack, state, ns, queue, tid=tid),
              st.sampled_from(STACKS), state_names, big, big, tids),
), max_size=12).map(lambda rows: slices(*rows))
any_totals = st.lists(st.dictionaries(st.sampled_from(KERNEL_STATES), big), min_size=3, max_size=3).map(
    lambda rows: totals(*({"tid": tid, **row} for tid, row in zip((PID, 101, 102), rows, strict=True))))
threads = [MAIN, WORKER, Thread(102, PID, "pool-4", False)]


@given(any_rows, any_totals, st.sampled_from([{}, {"ring_full": 2}]), st.sampled_from([0.0, 99.0]))
@settings(max_examples=150, deadline=None)
def test_the_ledger_closes(rows: np.ndarray, sums: np.ndarray, lost: dict[str, int], rate_hz: float) -> None:
    """Stages add up to what the carriers lived, state by state; stacks add up to the stages; threads too."""
    rows = rows if rate_hz else rows[rows["state"] != 0]    # no sampling, no samples
    report = report_of(stream(rows, sums, threads, lost=lost, header=replace(HEADER, rate_hz=rate_hz)))
    carriers = [t for t in report.threads if t.carrier]
    for state in KERNEL_STATES:
        kinds = ("running_user", "running_kernel") if state == "running" else (state,)
        in_stages = sum(report.stages[stage][kind] or 0 for stage in STAGES for kind in kinds)
        assert abs(in_stages - sum(t.states_ns[state] for t in carriers)) <= 30
    for stage in STAGES:
        stacks = sum(s.ns for s in report.stacks if s.carrier and s.stage == stage)
        assert abs(stacks - report.stage_ns(stage)) <= 100
        assert abs(sum(t.stages_ns[stage] for t in carriers) - report.stage_ns(stage)) <= 30
    assert sum(report.quality["unattributed"].values()) == pytest.approx(report.stage_ns("unattributed"), abs=30)
    busy = report.total_ns() - report.stage_ns("idle") - report.stage_ns("handoff")
    if busy:
        assert report.ai_tax_ratio == pytest.approx(1 - report.stage_ns("compute") / busy)
    else:
        assert report.ai_tax_ratio is None


@given(st.lists(st.dictionaries(st.sampled_from(KERNEL_STATES), big | small_negative), min_size=1, max_size=1))
@settings(deadline=None)
def test_a_state_that_comes_out_below_zero_is_taken_off_the_others(rows: list[dict[str, int]]) -> None:
    """The scheduler's clock and ours differ by microseconds, and a window may begin between the two."""
    report = report_of(stream(slices(), totals(*rows)))
    assert all((ns or 0) >= 0 for states in report.stages.values() for ns in states.values())
    assert abs(report.total_ns() - max(sum(rows[0].values()), 0)) <= 20


def _split(array: np.ndarray, at: list[float]) -> list[np.ndarray]:
    return np.split(array, sorted(int(f * len(array)) for f in at))


@given(any_rows, any_totals, st.lists(st.floats(0, 1), max_size=4), st.randoms(use_true_random=False))
@settings(max_examples=80, deadline=None)
def test_how_a_stream_is_cut_into_batches_makes_no_difference(rows: np.ndarray, sums: np.ndarray, at: list[float],
                                                               random: object) -> None:
    whole = stream(rows, sums, threads, lost={"frame_gone": 6})
    parts = _split(rows, at)
    halves = sums.copy(), sums.copy()
    halves[0]["state_ns"] //= 2
    halves[1]["state_ns"] -= halves[0]["state_ns"]
    for half in halves:
        half["lifetime_ns"] = half["state_ns"].sum(axis=1)
    lost = [{"frame_gone": 6}] + [{}] * (len(parts) - 1)
    cut = [*whole[:2], *(Batch(SECOND, 11 * SECOND, p, n) for p, n in zip(parts, lost, strict=True)),
           Totals(SECOND, 6 * SECOND, halves[0]), Totals(6 * SECOND, 11 * SECOND, halves[1]), END]
    assert report_of(cut) == report_of(whole)


# -- the contract

def test_every_stage_and_state_is_a_key_and_numbers_are_plain() -> None:
    for report in (simple(), report_of([HEADER, END])):
        found = json.loads(json.dumps(to_json(report), allow_nan=False))
        assert found["stages"].keys() == found["stages_se_ns"].keys() == set(STAGES)
        assert found["substages"].keys() == set(SUBSTAGES)
        assert all(row.keys() == set(STATES) for row in (*found["stages"].values(), *found["substages"].values()))
        assert found["schema"] == SCHEMA == "excise.report/1"


def test_the_contract_has_all_its_keys() -> None:
    found = to_json(simple())
    assert found.keys() == {
        "schema", "boot_id", "target", "host", "window", "stages", "stages_se_ns", "substages", "helpers",
        "ai_tax_ratio", "ai_tax_se", "quality", "overhead", "threads", "stacks", "notes", "history"}
    assert found["window"] == {"start_wall_ns": 5 * SECOND, "start_mono_ns": SECOND, "duration_ns": 10 * SECOND,
                               "end_reason": "duration", "rate_hz": 99.0}
    assert found["target"]["processes"][0].keys() == {f.name for f in fields(Process)}
    assert {"samples", "carrier_samples", "lost", "unattributed", "unattributed_ratio",
            "schedstat"} == found["quality"].keys()
    assert all(row.keys() >= {"stage", "reason", "substage", "state", "ns", "count", "frames"}
               for row in found["stacks"])
    assert found["quality"]["unattributed"].keys() == set(UNATTRIBUTED)


def test_the_longest_list_in_the_contract_is_cut_to_the_heaviest() -> None:
    report = simple()
    assert [s["ns"] for s in to_json(report, max_stacks=2)["stacks"]] == [s.ns for s in report.stacks[:2]]
    assert list(report.stacks) == sorted(report.stacks, key=lambda s: -s.ns)


# -- the session

def host(**values: object) -> HostSample:
    return HostSample(0, 1, values)


def test_counters_of_the_host_add_up_and_gauges_are_the_last_ones() -> None:
    session = session_of([HEADER, host(throttled_ns=5, rss_bytes=10, disk_read_bytes=1),
                          host(throttled_ns=7, rss_bytes=20, disk_read_bytes=2)])
    assert session.host == {"throttled_ns": 12, "rss_bytes": 20, "disk_read_bytes": 3}


@pytest.mark.parametrize("values", [(None, 5), (5, None), (5, None, 5)])
def test_a_counter_that_was_not_measured_throughout_is_not_measured(values: tuple[int | None, ...]) -> None:
    assert session_of([HEADER, *(host(net_in_bytes=v) for v in values)]).host == {"net_in_bytes": None}


def test_ports_that_were_ever_listened_on_stay_inbound() -> None:
    session = session_of([HEADER, host(listen_ports=[80]), host(listen_ports=None), host(listen_ports=[81, 80])])
    assert session.host == {"listen_ports": [80, 81]}


def test_schedstat_that_one_window_lacks_is_not_measured() -> None:
    both = [Totals(0, 1, totals({"running": 1, "sched_running_ns": a, "sched_runnable_ns": 1})) for a in (5, -1)]
    (row,) = session_of([HEADER, *both]).totals_array()
    assert row["sched_running_ns"] == -1 and row["sched_runnable_ns"] == 2


def test_a_carrier_stays_one() -> None:
    session = session_of([HEADER, definitions([MAIN]), definitions([replace(MAIN, carrier=False, name="renamed")])])
    assert session.threads[PID] == replace(MAIN, name="renamed")


def test_a_thread_number_that_came_to_another_process_begins_anew() -> None:
    other = Thread(PID, 500, "other", False)
    assert session_of([HEADER, definitions([MAIN]), definitions([other])]).threads[PID] == other


def test_feeding_leaves_the_items_as_they_were() -> None:
    items = stream(slices(waited("serving", "net", 5)), totals({"net": 5}))
    sums = items[3]
    assert isinstance(sums, Totals)
    before = sums.rows.tobytes()
    session_of([*items[:4], sums, *items[4:]])
    assert sums.rows.tobytes() == before


def test_a_header_alone_makes_a_report() -> None:
    report = report_of([Header("b", {}, {"pid": 1}, 0, 0, 99.0)])
    assert report.total_ns() == 0 and report.stacks == () and report.quality["unattributed_ratio"] is None
