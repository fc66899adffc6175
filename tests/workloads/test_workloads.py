"""The workloads serve, their clocks add up, and the kernel's clock does not contradict them."""

from __future__ import annotations

import http.client
import json
import time
from pathlib import Path

import pytest
from driver import WORKLOADS, Running, difference, start_workload
from stopwatch import NOT_BUSY, STAGES, Stopwatch, busy_ns, truth

from excise.names import STAGES as LEDGER_STAGES

WAITING = (*NOT_BUSY, "sleep", "loader_wait")
SPAN_S = 1.5


def span_of(workload: Running) -> tuple[dict[str, int], int, dict[int, tuple[int, int]]]:
    """Stage -> ns; the threads' time; by thread: busy by its own clock, on CPU by the kernel's."""
    before, cpu_before = workload.truth(), cpu_ns(workload)
    time.sleep(SPAN_S)
    cpu_after, after = cpu_ns(workload), workload.truth()
    span = difference(before, after)
    was = {t["tid"]: t["stage_ns"] for t in before["threads"]}
    compared = {
        t["tid"]: (sum(ns - was[t["tid"]][name] for name, ns in t["stage_ns"].items() if name not in WAITING),
                   cpu_after[t["tid"]] - cpu_before[t["tid"]])
        for t in after["threads"] if t["tid"] in cpu_before and t["tid"] in cpu_after}
    return span["stage_ns"], span["carrier_ns"], compared


def cpu_ns(workload: Running) -> dict[int, int]:
    """From schedstat, of threads that live."""
    out = {}
    for thread in workload.truth()["threads"]:
        if not thread["ended_ns"]:
            stat = Path(f"/proc/{thread['pid']}/task/{thread['tid']}/schedstat").read_text()
            out[thread["tid"]] = int(stat.split()[0])
    return out


@pytest.mark.parametrize(("name", "options"), [
    ("threaded_http", []),
    ("asyncio_server", []),
    ("loader", []),
    ("token_loop", []),
    ("threaded_http", ["--renamed", "--model-threads", "default", "--sleep-ms", "5"]),
    ("asyncio_server", ["--renamed", "--gil-contention"]),
    ("loader", ["--renamed", "--start-method", "spawn", "--workers", "1"]),
    ("token_loop", ["--renamed", "--gil-contention", "--sleep-ms", "1"]),
])
def test_a_workload_serves_and_its_clock_adds_up(name: str, options: list[str]) -> None:
    with start_workload(name, options) as workload:
        workload.ready()
        stage_ns, carrier_ns, compared = span_of(workload)
        assert sum(stage_ns.values()) == pytest.approx(carrier_ns, rel=0.005)
        assert all(ns >= 0 for ns in stage_ns.values())
        worked = [s for s in ("data_loading", "preprocess", "compute", "logging") if stage_ns[s] > 0]
        assert len(worked) == 4
        assert stage_ns["glue"] < 0.03 * busy_ns(stage_ns)
        assert (stage_ns["sleep"] > 0) is ("--sleep-ms" in options)
        for busy, on_cpu in compared.values():  # waits are laps of their own: nobody works in them
            assert on_cpu < busy * 1.03 + 0.03e9
        said = workload.stop()
    if said:
        measured = json.loads(said)
        assert measured["requests"] > 0 and measured["failures"] == 0
        assert measured["p99_ms"] >= measured["p50_ms"] > 0


@pytest.mark.parametrize("name", WORKLOADS)
def test_unknown_work_is_the_share_that_was_asked_for(name: str) -> None:
    with start_workload(name, ["--unknown", "0.2"]) as workload:
        workload.ready()
        stage_ns, _carrier_ns, _compared = span_of(workload)
    if name == "loader":  # the queue's feeder threads have none
        stage_ns["serving"] = 0
    assert stage_ns["unknown"] / busy_ns(stage_ns) == pytest.approx(0.2, abs=0.06)


def test_renamed_user_code_says_nothing() -> None:
    with start_workload("threaded_http", ["--renamed"]) as workload:
        workload.ready()
        files = sorted(workload.clock.parent.glob("_renamed_*.py"))
        text = "".join(path.read_text() for path in files)
    assert len(files) == 2
    assert "def f1(" in text or "class f1" in text
    for name in ("def take", "def shape", "def ask", "def note", "def whole", "def mix", "class Pipeline"):
        assert name not in text


@pytest.mark.parametrize("name", ["threaded_http", "asyncio_server"])
def test_the_truth_is_also_an_answer(name: str) -> None:
    with start_workload(name) as workload:
        connection = http.client.HTTPConnection("127.0.0.1", workload.ready()["port"], timeout=10)
        connection.request("GET", "/truth")
        told = json.loads(connection.getresponse().read())
        connection.close()
        assert told["stage_ns"].keys() == set(STAGES)
        assert told["since_mono_ns"] < told["now_mono_ns"] <= time.monotonic_ns()


def test_a_window_can_be_asked_for_afterwards() -> None:
    with start_workload("token_loop") as workload:
        workload.ready()
        with workload.chronicle() as chronicle:
            time.sleep(0.2)
            before = workload.truth()
            time.sleep(0.5)
            after = workload.truth()
        span = difference(before, after)
        told = chronicle.between(span["start_ns"], span["end_ns"])
        assert sum(told.values()) == pytest.approx(span["carrier_ns"], rel=0.02)
        with pytest.raises(ValueError, match="outside"):
            chronicle.between(0, 1)


def test_stopping_ends_every_process_and_leaves_no_files() -> None:
    workload = start_workload("loader")
    workload.ready()
    pids = {t["pid"] for t in workload.truth()["threads"]}
    workload.stop()
    deadline = time.monotonic() + 5
    while (left := [pid for pid in pids if Path(f"/proc/{pid}").exists()]) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(pids) == 3  # the main process and two workers
    assert left == []
    assert not workload.clock.parent.exists()


def test_a_workload_that_cannot_start_is_a_sentence() -> None:
    workload = start_workload("token_loop", ["--no-such-option"])
    with pytest.raises(RuntimeError, match=r"token_loop\.py was not ready"):
        workload.ready()
    workload.stop()


def test_an_inner_lap_pauses_the_outer_one(tmp_path: Path) -> None:
    watch = Stopwatch(tmp_path / "clock")
    watch.register("idle")
    with watch("preprocess"):
        time.sleep(0.02)
        with watch("logging"):
            time.sleep(0.03)
        time.sleep(0.02)
    watch.end()
    stage_ns = truth(tmp_path / "clock")["stage_ns"]
    assert 0.04e9 <= stage_ns["preprocess"] < 0.04e9 + stage_ns["logging"]
    assert stage_ns["logging"] >= 0.03e9
    [thread] = truth(tmp_path / "clock")["threads"]
    assert sum(stage_ns.values()) == thread["ended_ns"] - thread["began_ns"]


def test_the_stages_are_the_ledgers_and_a_few_of_its_own() -> None:
    assert set(STAGES) - set(LEDGER_STAGES) == {"glue", "loader_wait", "sleep", "unknown"}
