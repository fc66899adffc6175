"""What is exposed of summaries: exact, bounded, absent where it is not known."""

import random
import re
import threading
from pathlib import Path

import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_feed import (
    BATCH,
    STATUS,
    VLLM,
    builder,
    fed,
    nanoseconds,
    series,
    typical,
    unknown,
    value,
    values,
)
from real_prometheus import promtool

from excise.frames import Process
from excise.names import STAGES
from excise.summary import Histogram, merge, stage_of
from excise.workload import Workload
from excise_agent.sinks.prometheus import COUNTERS_S, GAUGES_S, Metrics
from excise_agent.sinks.prometheus_labels import MOST_CHARS, OTHER
from excise_agent.sinks.prometheus_names import FAMILIES, NUMBERS
from excise_agent.sinks.prometheus_page import page
from excise_agent.sinks.prometheus_status import AgentStatus, SinkStatus
from excise_agent.sinks.prometheus_sums import MOST_LIBRARIES
from excise_agent.sinks.prometheus_waits import LIMITS_NS

ROOT = Path(__file__).parents[2]


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def nothing() -> None:
    return None


def test_stage_seconds_add_up_to_the_summaries_total_to_the_nanosecond() -> None:
    metrics, windows = Metrics(nothing), typical(20)
    for summary in windows:
        metrics.take(VLLM, summary)
    whole = merge(*windows[:2])
    for summary in windows[2:]:
        whole = merge(whole, summary)
    exposed = values(metrics, "excise_stage_seconds_total", workload="vllm.service")
    assert nanoseconds(exposed.values()) == whole.total_ns()
    for stage, ns in whole.stages_ns().items():
        of_stage = values(metrics, "excise_stage_seconds_total", workload="vllm.service", stage=stage)
        assert nanoseconds(of_stage.values()) == ns


def test_every_number_that_is_a_sum_is_that_of_the_summaries() -> None:
    metrics, windows = Metrics(nothing), typical(7)
    for summary in windows:
        metrics.take(VLLM, summary)
    for number in NUMBERS:
        if FAMILIES[number.metric].kind == "counter":
            labels = {"workload": "vllm.service"} | ({"part": number.part} if number.part else {})
            expected = sum(getattr(s, number.section)[number.number] for s in windows)
            assert value(metrics, number.metric, **labels) == expected / number.per
    assert value(metrics, "excise_windows_total", workload="vllm.service") == 7
    assert value(metrics, "excise_workload_resident_memory_bytes", workload="vllm.service") \
        == windows[-1].kpis["rss_bytes"]
    assert value(metrics, "excise_ai_tax_ratio", workload="vllm.service") == windows[-1].ai_tax_ratio()


def test_helpers_parts_and_losses_close() -> None:
    metrics, windows = Metrics(nothing), typical(4)
    for summary in windows:
        metrics.take(VLLM, summary)
    helpers = values(metrics, "excise_helper_cpu_seconds_total", workload="vllm.service")
    assert nanoseconds(helpers.values()) == sum(
        h.states_ns.get("running", 0) for s in windows for h in s.helpers.values())
    for stage in ("compute", "unattributed"):
        parts = values(metrics, f"excise_{stage}_seconds_total", workload="vllm.service")
        assert nanoseconds(parts.values()) == sum(s.stages_ns()[stage] for s in windows)
    lost = values(metrics, "excise_losses_total", workload="vllm.service")
    assert lost[frozenset({("reason", "walk_truncated")})] == 0
    assert sum(lost.values()) == sum(n for s in windows for n in s.lost.values())


def test_variances_add_up_and_what_is_not_known_is_absent_and_counted() -> None:
    metrics, windows = Metrics(nothing), typical(3)
    for summary in windows:
        metrics.take(VLLM, summary)
    metrics.take(BATCH, unknown())
    name = "excise_stage_variance_seconds_squared_total"
    for stage in STAGES:
        expected = sum(s.stage_variances_us2.get(stage) or 0 for s in windows)
        assert value(metrics, name, workload="vllm.service", stage=stage) == pytest.approx(expected / 1e12, rel=1e-12)
    assert value(metrics, name, workload="nightly", stage="compute") is None
    assert value(metrics, "excise_unknown_windows_total", workload="nightly", metric=name) == 1
    assert value(metrics, "excise_workload_cpu_seconds_total", workload="nightly") is None
    assert value(metrics, "excise_unknown_windows_total", workload="nightly",
                 metric="excise_workload_cpu_seconds_total") == 1
    assert value(metrics, "excise_workload_resident_memory_bytes", workload="nightly") is None
    assert value(metrics, "excise_workload_quota_cpus", workload="nightly") == 1.5
    assert value(metrics, "excise_ai_tax_standard_error_ratio", workload="nightly") is None
    assert not values(metrics, "excise_unknown_windows_total", workload="vllm.service")


def test_a_state_that_was_seen_is_zero_in_other_stages_and_one_that_was_not_is_absent() -> None:
    metrics = Metrics(nothing)
    metrics.take(BATCH, unknown())
    assert value(metrics, "excise_stage_seconds_total", workload="nightly", stage="logging", state="running_user") == 0
    assert not values(metrics, "excise_stage_seconds_total", workload="nightly", state="gil")


@pytest.mark.parametrize("scale", [0, 2, 4, 8])
def test_waits_are_in_the_right_bucket_at_the_limits_and_at_every_scale(scale: int) -> None:
    metrics, made = Metrics(nothing), builder()
    process = made.process(Process(7, 70, "x"))
    made.cell(process, "logging", "io", 1e9)
    octaves = {1: 2, 13: 3, 14: 5, 33: 7, 34: 11, 60: 13}  # waits of just under 2^n ns: how many
    counts = {(n << scale) - 1: count for n, count in octaves.items()}
    made.lengths(process, "logging", "", Histogram(scale, counts))
    metrics.take(BATCH, made.build(kpis={}, quality={}, cost={}, lost={}, steps={}))
    for limit in LIMITS_NS:
        below = sum(count for n, count in octaves.items() if 2**n <= limit)
        assert value(metrics, "excise_wait_seconds_bucket", workload="nightly", stage="logging",
                     le=repr(limit / 1e9)) == below
    assert value(metrics, "excise_wait_seconds_count", workload="nightly", stage="logging") == sum(octaves.values())


def test_waits_of_a_stage_are_those_of_its_processes_and_the_sum_is_within_its_error() -> None:
    metrics, random_ = Metrics(nothing), random.Random(5)
    lengths = [round(10 ** random_.uniform(2, 10)) for _ in range(3000)]
    made = builder()
    for pid in (7, 8, 9):
        process = made.process(Process(pid, pid, "x"))
        made.cell(process, "compute.cpu", "io", 1e12)
        made.lengths(process, "compute.cpu", "", Histogram.of(lengths[pid - 7::3]))
    metrics.take(BATCH, made.build(kpis={}, quality={}, cost={}, lost={}, steps={}))
    for limit in LIMITS_NS:
        assert value(metrics, "excise_wait_seconds_bucket", workload="nightly", stage="compute",
                     le=repr(limit / 1e9)) == sum(length <= limit for length in lengths)
    total = value(metrics, "excise_wait_seconds_sum", workload="nightly", stage="compute")
    assert total == pytest.approx(sum(lengths) / 1e9, rel=0.022)


HOSTILE = ["", " ", 'a"b\\c\n# TYPE x counter', "\x1b[31mred", "\udcff\udcfe", "\u202egnp.exe", "x" * 10_000,
           "x" * 9_999 + "y", "{le=\"1\"}", "\0", "日本", OTHER, "vllm.service"]


def test_hostile_names_are_printable_short_apart_and_accepted() -> None:
    metrics = Metrics(lambda: AgentStatus("\n", "\udc00", probes={"\n": True, "": False}, windows_lost={'"\n': 1},
                                          sinks=(SinkStatus("\n", "\n"), SinkStatus("\n", "x"))))
    workloads = [Workload(name, kind) for name in HOSTILE for kind in ("process", "unit", "container")]  # type: ignore[arg-type]
    for workload in workloads:
        made = builder()
        process = made.process(Process(7, 70, workload.name, workload.name))
        made.cell(process, "logging", "io", 1e9)
        for library in HOSTILE:
            made.helper(process, library, 1, {"running": 1e9})
        metrics.take(workload, made.build(kpis={}, quality={}, cost={}, lost=dict.fromkeys(HOSTILE, 1), steps={}))
    found = series(metrics)
    named = {dict(key.labels)["workload"] for key in found if key.name == "excise_windows_total"}
    assert len(named) == len(workloads)
    for key in found:
        for label, text in key.labels:
            assert text.isprintable() and len(text) <= MOST_CHARS + 40, (label, text)
    promtool("check", "metrics", text=generate_latest(metrics))
    text = generate_openmetrics(metrics).decode()
    assert {s.labels["workload"] for f in text_string_to_metric_families(text) for s in f.samples
            if s.name == "excise_windows_total"} == named


def test_libraries_are_few_and_their_time_is_whole() -> None:
    metrics = Metrics(nothing)
    for round_ in range(3):
        made = builder()
        process = made.process(Process(7, 70, "x"))
        for i in range(100):
            made.helper(process, f"lib{(i + 50 * round_) % 100}.so", 1, {"running": 1e9 + i})
        metrics.take(BATCH, made.build(kpis={}, quality={}, cost={}, lost={}, steps={}))
    found = values(metrics, "excise_helper_cpu_seconds_total", workload="nightly")
    assert len(found) == MOST_LIBRARIES + 1
    assert frozenset({("library", OTHER)}) in found
    assert nanoseconds(found.values()) == 3 * sum(10**9 + i for i in range(100))


def test_a_stage_or_state_of_another_version_keeps_the_sum_whole() -> None:
    metrics, made = Metrics(nothing), builder()
    process = made.process(Process(7, 70, "x"))
    for i in range(50):
        made.cell(process, f"stage{i}.part", f"state{i}", 1e9)
    metrics.take(BATCH, made.build(kpis={}, quality={}, cost={}, lost={}, steps={}))
    found = values(metrics, "excise_stage_seconds_total", workload="nightly", state="unknown")
    assert set(found) == {frozenset({("stage", stage)}) for stage in (*STAGES, "unknown")}
    assert nanoseconds(found.values()) == 50 * 10**9


def test_workloads_are_bounded_and_a_silent_one_makes_room() -> None:
    clock = Clock()
    metrics = Metrics(nothing, most_workloads=3, clock=clock)
    for name in "abcde":
        metrics.take(Workload(name, "unit"), unknown())
    assert {dict(k)["workload"] for k in values(metrics, "excise_windows_total")} == set("abc")
    assert value(metrics, "excise_windows_unexposed_total") == 2
    metrics.forget(Workload("b", "unit"))
    metrics.take(Workload("f", "unit"), unknown())
    assert {dict(k)["workload"] for k in values(metrics, "excise_windows_total")} == set("acf")
    clock.now_s += GAUGES_S - 1
    metrics.take(Workload("c", "unit"), unknown())
    clock.now_s += 2
    metrics.take(Workload("g", "unit"), unknown())
    assert "c" in {dict(k)["workload"] for k in values(metrics, "excise_windows_total")}


def test_a_forgotten_workload_leaves_its_last_sums_for_a_while_and_then_nothing() -> None:
    clock = Clock()
    metrics = Metrics(nothing, clock=clock)
    metrics.take(VLLM, typical(1)[0])
    metrics.take(BATCH, unknown())
    metrics.forget(VLLM)
    metrics.forget(Workload("never", "unit"))
    names = {key.name for key in series(metrics) if ("workload", "vllm.service") in key.labels}
    assert "excise_stage_seconds_total" in names
    assert not {name for name in names if FAMILIES.get(name) and FAMILIES[name].kind in ("gauge", "info")}
    clock.now_s += COUNTERS_S + 1
    assert not [key for key in series(metrics) if "workload" in dict(key.labels)]
    metrics.take(VLLM, typical(1)[0])
    assert value(metrics, "excise_windows_total", workload="vllm.service") == 1  # from 0 again


def test_a_workload_without_windows_loses_its_gauges_and_one_that_comes_back_goes_on() -> None:
    clock = Clock()
    metrics = Metrics(nothing, clock=clock)
    metrics.take(VLLM, typical(1)[0])
    clock.now_s += GAUGES_S + 1
    assert value(metrics, "excise_ai_tax_ratio", workload="vllm.service") is None
    metrics.take(VLLM, typical(1)[0])
    assert value(metrics, "excise_ai_tax_ratio", workload="vllm.service") is not None
    assert value(metrics, "excise_windows_total", workload="vllm.service") == 2


def test_nothing_is_left_of_thousands_of_workloads_that_came_and_went() -> None:
    clock = Clock()
    metrics, summary = Metrics(nothing, clock=clock), unknown()
    for i in range(3000):
        workload = Workload(f"job-{i}", "process")
        metrics.take(workload, summary)
        metrics.forget(workload)
        clock.now_s += 0.3
    assert len(values(metrics, "excise_windows_total")) == 64
    assert value(metrics, "excise_windows_unexposed_total") == 0
    clock.now_s += COUNTERS_S + 1
    assert {key.name for key in series(metrics)} == {"excise_windows_unexposed_total"}
    assert not metrics._sums and not metrics._taken_s and not metrics._gone


def test_all_that_can_be_exposed_is_in_the_table_and_all_of_the_table_is_exposed() -> None:
    found = {re.sub(r"_(bucket|count|sum)$", "", key.name): {name for name, _ in key.labels} - {"le"}
             for key in series(fed())}
    assert {name: set(family.labels) for name, family in FAMILIES.items()} == found


def test_an_agent_that_knows_nothing_of_itself_says_nothing() -> None:
    metrics = Metrics(lambda: AgentStatus("1", "3.11"))
    assert {key.name for key in series(metrics)} == {"excise_build_info", "excise_windows_unexposed_total"}


def test_the_agents_state_is_exposed_as_it_is() -> None:
    metrics = fed()
    assert value(metrics, "excise_sink_up", sink="fleet") == 1
    assert value(metrics, "excise_sink_up", sink="logs") is None
    assert value(metrics, "excise_sink_lost_windows_total", sink="fleet", reason="aged") == 2
    assert value(metrics, "excise_probe_attached", probe="on_waking") == 0
    assert value(metrics, "excise_agent_cpu_seconds_total", part="bpf") == STATUS.cpu_s["bpf"]
    assert value(metrics, "excise_windows_lost_total", reason="disk_full") == 0


def test_promtool_finds_nothing_to_say_about_it() -> None:
    assert promtool("check", "metrics", text=generate_latest(fed())) == ""


def test_the_strict_reader_of_openmetrics_takes_all_of_it() -> None:
    text = generate_openmetrics(fed()).decode()
    read = {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}
    assert read == {key.name for key in series(fed())}


def test_the_page_of_metrics_is_as_the_table() -> None:
    assert (ROOT / "docs/metrics.md").read_text() == page(), "run python -m excise_agent.sinks.prometheus_page"


def test_windows_taken_during_scrapes_are_all_counted() -> None:
    metrics, windows = Metrics(lambda: STATUS), typical(2)
    scrapes, done = [], threading.Event()

    def scrape() -> None:
        while not done.is_set():
            scrapes.append(value(metrics, "excise_windows_total", workload="vllm.service") or 0)

    thread = threading.Thread(target=scrape)
    thread.start()
    for i in range(200):
        metrics.take(VLLM, windows[i % 2])
    done.set()
    thread.join(30)
    assert scrapes == sorted(scrapes)
    exposed = values(metrics, "excise_stage_seconds_total", workload="vllm.service")
    assert nanoseconds(exposed.values()) == 100 * sum(s.total_ns() for s in windows)
    assert {stage_of(key.cls) for key in windows[0].cells} <= set(STAGES)
