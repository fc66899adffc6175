"""Sinks that are down, dawdle or talk nonsense: the agent watches on, and what they should have got waits for them."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from daemon.harness import AgentRun, lost, numbers, pauses, spans, watches, workload
from excise.spool import Entry
from faults.forward_receiver import TAKE, ForwardReceiver, moody

QUICK_S = 10.0  # an answer of the loop's, on a loaded machine; sinks would hold it up for 60 s
STOP_S = 20.0
CAUGHT_UP_S = 180.0  # the longest backoff is 60 s
WINDOWS = 3


def slowest_answer_s(run: AgentRun, done: Callable[[dict[str, object]], object]) -> float:
    """Of the loop, asked again and again until it is so."""
    slowest = 0.0
    state: dict[str, object] = {}
    while not (state and done(state)):
        began = time.monotonic()
        state = run.status()
        slowest = max(slowest, time.monotonic() - began)
        time.sleep(0.05)
    return slowest


@pytest.mark.bpf
def test_bad_sinks_hold_up_nothing_and_get_all_of_it_when_they_are_well(tmp_path: Path) -> None:
    deaf = socket.create_server(("127.0.0.1", 0), backlog=0)  # nobody accepts
    closed = socket.create_server(("127.0.0.1", 0))
    port = closed.getsockname()[1]
    closed.close()
    with ForwardReceiver(lambda: "garbage") as garbage, ForwardReceiver(lambda: "silent") as silent, \
            ForwardReceiver(moody(3, 0.5)) as moody_one:
        sinks = garbage.configured("garbage") + silent.configured("silent", "60s") + moody_one.configured("moody")
        sinks += f'[[forward]]\nname = "deaf"\naddress = "127.0.0.1:{deaf.getsockname()[1]}"\ntimeout = "60s"\n'
        sinks += f'[[forward]]\nname = "closed"\naddress = "127.0.0.1:{port}"\n'
        with AgentRun(tmp_path, sinks, targets=["busy"]) as run:
            run.start()
            run.until(watches("busy"))  # the first one has the kernels loaded
            slowest_s = slowest_answer_s(run, lambda s: (
                watches("busy", windows=WINDOWS)(s) and down(s) >= {"garbage", "closed"} and silent.messages))
            assert slowest_s < QUICK_S
            assert run.excise("status", "--socket", str(run.socket)).wait() == 1  # something is not well
            garbage.mood = silent.mood = moody_one.mood = lambda: TAKE
            run.until(lambda s: {"garbage", "silent", "moody"} <= {k["name"] for k in s["sinks"] if k["lag"] == 0},
                      "those that are well again have caught up", CAUGHT_UP_S)
            assert run.stop() < STOP_S  # with two that are down yet

            items = run.items()
            written = [e.sequence for e in items if isinstance(e, Entry)]
            assert numbers(items) == list(range(1, len(numbers(items)) + 1)) and set(lost(items)) <= {"unused"}
            assert pauses(spans(items, "busy")) == 0
            for receiver in (garbage, silent, moody_one):
                got = sorted(n for _, n in receiver.taken)
                assert got == written[: len(got)] and len(got) >= WINDOWS
    deaf.close()


def down(state: dict[str, object]) -> set[str]:
    return {s["name"] for s in state["sinks"] if s["failures"]}  # type: ignore[attr-defined]


@pytest.mark.bpf
def test_a_full_disk_is_counted_and_survived(tmp_path: Path, small_disk: Path) -> None:
    with (
        ForwardReceiver() as receiver,
        AgentRun(tmp_path, receiver.config, targets=["one", "two"], state=small_disk / "state") as run,
    ):
        run.state_dir.mkdir(mode=0o700)
        run.start()
        run.until(watches("one", "two", windows=2))
        fill(small_disk / "ballast")
        state = run.until(lambda s: sum(s["spool"]["lost"].values()) >= 4, "lost windows are counted")
        assert state["spool"]["lost"].get("disk_full", 0) > 0
        windows = workload(state, "one")["windows"]
        slowest_s = slowest_answer_s(run, watches("one", "two", windows=windows + 2))
        assert slowest_s < QUICK_S
        (small_disk / "ballast").unlink()
        written = run.status()["spool"]["written"]
        run.until(lambda s: s["spool"]["written"] >= written + 4, "it writes again")
        run.until(lambda s: s["sinks"][0]["lag"] == 0, "the sink has caught up")
        state = run.status()
        made = sum(workload(state, name)["windows"] for name in ("one", "two"))
        assert made == state["spool"]["written"] + sum(state["spool"]["lost"].values())
        run.stop()

        items = run.items()
        assert numbers(items) == list(range(1, len(numbers(items)) + 1))
        assert set(lost(items)) <= {"disk_full", "unused"} and lost(items)["disk_full"] >= 1
        told = {n for _, n in receiver.taken} | {n for _, n in receiver.lost()}
        assert told == set(range(1, max(told) + 1))
        assert all(target.works() for target in run.targets.values())


def fill(path: Path) -> None:
    """To the last byte."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue


@pytest.mark.bpf
def test_an_agent_that_starts_on_a_full_disk_watches_and_counts(tmp_path: Path, small_disk: Path) -> None:
    with (
        ForwardReceiver() as receiver,
        AgentRun(tmp_path, receiver.config, targets=["one"], state=small_disk / "state") as run,
    ):
        run.state_dir.mkdir(mode=0o700)
        run.start()
        run.until(watches("one", windows=2))
        fill(small_disk / "ballast")
        run.kill()
        run.start()
        state = run.until(watches("one", windows=3))
        assert state["spool"]["lost"].get("crash", 0) >= 1
        (small_disk / "ballast").unlink()
        written = run.status()["spool"]["written"]
        run.until(lambda s: s["spool"]["written"] >= written + 2, "it writes again")
        run.until(lambda s: s["sinks"][0]["lag"] == 0, "the sink has caught up")
        run.stop()
        items = run.items()
        assert numbers(items) == list(range(1, len(numbers(items)) + 1))
        assert set(lost(items)) <= {"disk_full", "crash", "unused"}
