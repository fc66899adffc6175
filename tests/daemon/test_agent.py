"""The agent as a process: reload, stop, a second one, and `excise attach` through it."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from bpf.kernel_objects import anonymous_descriptors
from daemon.harness import DEADLINE_S, AgentRun, Target, lost, numbers, pauses, spans, wait_until, watches, workload
from excise.spool import Entry

pytestmark = pytest.mark.bpf
STOP_S = 15.0  # "a few", on a loaded machine; what holds it up most is a sink that does not answer: 3 s


@pytest.fixture
def run(tmp_path: Path) -> Iterator[AgentRun]:
    """One that has had a window of each of two targets."""
    with AgentRun(tmp_path, targets=["one", "two"]) as made:
        made.start()
        made.until(watches("one", "two"))
        yield made


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentRun]:
    """The same, of all tests that leave it as it was: a start takes seconds."""
    with AgentRun(tmp_path_factory.mktemp("agent"), targets=["one", "two"]) as made:
        made.start()
        made.until(watches("one", "two"))
        yield made


def test_reloads_lose_no_window(run: AgentRun) -> None:
    changes = ('[history]\nstacks = 10\n', '[agent.x]\n', '', '[history]\nstacks = 20\n', '[log]\nlevel = "debug"\n')
    for i, more in enumerate(changes):
        state = run.status()
        run.configure(more)
        run.reload()
        words = "the configuration was read again" if i != 1 else "the configuration is not taken"
        wait_until(lambda words=words, i=i: run.logged().count(words) >= (1 if i == 1 else i + (i == 0)), "it reloads")
        run.until(lambda s, was=state: all(
            workload(s, name)["windows"] > workload(was, name)["windows"] or workload(s, name)["windows"] == 1
            for name in ("one", "two")), "windows go on")
    run.stop()
    items = run.items()
    assert numbers(items) == list(range(1, len(numbers(items)) + 1))
    assert set(lost(items)) <= {"unused"}
    for name in ("one", "two"):
        found = spans(items, name)
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(found))  # none twice
        assert pauses(found) <= len(changes)  # new rules and other stacks: the watch begins anew


def test_a_reload_of_nothing_new_does_not_stop_the_watch(long_run: AgentRun) -> None:
    run = long_run
    was = run.status()
    run.reload()
    wait_until(lambda: "read again" in run.logged(), "it reloads")
    run.until(watches("one", "two", windows=workload(was, "one")["windows"] + 2))
    assert run.status()["probes"]["starts"] == was["probes"]["starts"]


def test_a_broken_configuration_is_refused_and_told_until_it_is_mended(long_run: AgentRun) -> None:
    run = long_run
    run.config.write_text(run.config.read_text().replace("window =", "windwo ="))
    run.reload()
    state = run.until(lambda s: s["agent"]["config_trouble"])
    assert "windwo" in state["agent"]["config_trouble"] and "window" in state["agent"]["config_trouble"]
    assert "the configuration is not taken" in run.logged()
    windows = workload(state, "one")["windows"]
    run.until(watches("one", windows=windows + 1))
    status = run.excise("status", "--socket", str(run.socket))
    said, _ = status.communicate(timeout=DEADLINE_S)
    assert status.returncode == 1 and "windwo" in said
    run.configure()
    run.reload()
    run.until(lambda s: not s["agent"]["config_trouble"])


def test_an_endpoint_that_cannot_be_had_at_a_reload_does_not_end_the_agent(long_run: AgentRun) -> None:
    run = long_run
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        run.configure(f'[prometheus]\nlisten = "127.0.0.1:{port}"\n')
        run.reload()
        state = run.until(lambda s: s["agent"]["config_trouble"])
        assert f"port {port}" in state["agent"]["config_trouble"] and state["metrics"] is None
    run.reload()
    state = run.until(lambda s: not s["agent"]["config_trouble"])
    assert state["metrics"] == f"127.0.0.1:{port}"
    run.configure()
    run.reload()
    run.until(lambda s: s["metrics"] is None)
    run.until(watches("one", windows=workload(state, "one")["windows"] + 1))


def test_workloads_come_and_go_with_a_reload(run: AgentRun) -> None:
    rules = run.config.read_text()
    run.config.write_text(rules.replace('name = "two"', 'name = "other"'))
    run.reload()
    state = run.until(watches("other"))
    assert workload(state, "two")["pids"] == [] and workload(state, "one")["pids"] == [run.targets["one"].pid]
    run.config.write_text(rules.replace('name = "two"', 'name = "two"\nignore = true'))
    run.reload()
    run.until(lambda s: [w["name"] for w in s["workloads"]] == ["one"])
    run.stop()
    items = run.items()
    assert numbers(items) == list(range(1, len(numbers(items)) + 1)) and set(lost(items)) <= {"unused"}
    assert {e.workload.name for e in items if isinstance(e, Entry)} == {"one", "two", "other"}


def test_it_stops_soon_though_its_sinks_are_down(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf:
        port = deaf.getsockname()[1]
        sinks = "".join(f'[[forward]]\nname = "sink{i}"\naddress = "127.0.0.1:{port}"\n' for i in range(3))
        with AgentRun(tmp_path, sinks, targets=["one"]) as run:
            run.start()
            run.until(watches("one"))
            assert run.stop() < STOP_S
            items = run.items()
            assert numbers(items) == list(range(1, len(numbers(items)) + 1)) and set(lost(items)) <= {"unused"}
            assert not run.socket.exists()


def test_a_second_agent_is_refused_in_a_sentence(long_run: AgentRun, tmp_path: Path) -> None:
    run = long_run
    text = run.config.read_text()
    for change, words in (
        (("/run\"", "/elsewhere\""), "is written by another agent"),
        ((str(run.state_dir), f"{tmp_path}/other"), "another agent runs"),
    ):
        second = tmp_path / "second.toml"
        second.write_text(text.replace(*change))
        (tmp_path / "other").mkdir(mode=0o700, exist_ok=True)
        process = run.excise("agent", "--config", str(second))
        _, said = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 1 and words in said and "Traceback" not in said
    run.until(watches("one", windows=workload(run.status(), "one")["windows"] + 1))


def test_attach_asks_the_agent_and_puts_no_probes_on(long_run: AgentRun) -> None:
    run = long_run
    process = attach(run, "--duration", "3s", "--json", "-")
    state = run.until(lambda s: s["probes"]["asked_by"] == 1)
    assert state["probes"]["rate_hz"] == 99.0
    assert not [d for d in anonymous_descriptors(process.pid) if "bpf" in d]
    said, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0
    report = json.loads(said)
    assert report["target"]["pid"] == run.targets["one"].pid and report["schema"].startswith("excise.report/")
    state = run.until(lambda s: s["probes"]["asked_by"] == 0)
    assert state["probes"]["rate_hz"] == 19.0


def test_attach_without_the_agent_has_probes_of_its_own_beside_it(long_run: AgentRun) -> None:
    run = long_run
    process = attach(run, "--duration", "1s", "--json", "-", "--no-agent")
    wait_until(lambda: any("bpf" in d for d in anonymous_descriptors(process.pid)), "it has probes")
    assert run.status()["probes"]["asked_by"] == 0
    said, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0 and json.loads(said)["target"]["pid"] == run.targets["one"].pid


def test_attach_ends_early_with_its_report(long_run: AgentRun) -> None:
    run = long_run
    process = attach(run, "--duration", "1h", "--json", "-")
    run.until(lambda s: s["probes"]["asked_by"] == 1)
    windows = workload(run.status(), "one")["windows"]
    run.until(watches("one", windows=windows + 2))
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0 and json.loads(said)["window"]["end_reason"] == "interrupted"
    run.until(lambda s: s["probes"]["asked_by"] == 0 and s["probes"]["rate_hz"] == 19.0)


def test_a_client_that_is_killed_or_stands_still_is_let_go(long_run: AgentRun) -> None:
    run = long_run
    killed, still = attach(run, "--duration", "1h"), attach(run, "--duration", "1h")
    run.until(lambda s: s["probes"]["asked_by"] == 2)
    os.kill(still.pid, signal.SIGSTOP)
    killed.kill()
    killed.wait()
    run.until(lambda s: s["probes"]["asked_by"] == 1)
    run.until(watches("one", windows=workload(run.status(), "one")["windows"] + 2))  # one that does not read is no harm
    still.kill()
    still.wait()
    run.until(lambda s: s["probes"]["asked_by"] == 0)


def test_an_agent_that_is_killed_leaves_its_clients_with_a_sentence(run: AgentRun, tmp_path: Path) -> None:
    recording = tmp_path / "kept.excise"
    process = attach(run, "--duration", "1h", "--json", "-", "--record", str(recording))
    run.until(lambda s: s["probes"]["asked_by"] == 1)
    windows = workload(run.status(), "one")["windows"]
    run.until(watches("one", windows=windows + 2))
    run.kill()
    said, complained = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 2 and said == ""
    assert "the agent went away" in complained and "Traceback" not in complained
    replay = run.excise("report", str(recording), "--json", "-")
    assert json.loads(replay.communicate(timeout=DEADLINE_S)[0])["target"]["pid"] == run.targets["one"].pid


def test_with_nothing_to_watch_no_probe_is_on(tmp_path: Path) -> None:
    with AgentRun(tmp_path, rules=["late"]) as run:
        state = run.start()
        assert not state["probes"]["attached"] and state["cost"] is None
        assert not anonymous_bpf(run.pid)
        target: Target = run.target("late")
        run.until(watches("late"))
        assert anonymous_bpf(run.pid)
        target.end()
        run.until(lambda s: not s["probes"]["attached"])
        assert not anonymous_bpf(run.pid)


def anonymous_bpf(pid: int) -> list[str]:
    return [name for name in anonymous_descriptors(pid) if "bpf" in name or "perf" in name]


def attach(run: AgentRun, *arguments: str):  # type: ignore[no-untyped-def]
    pid = str(run.targets["one"].pid)
    return run.excise("attach", "--socket", str(run.socket), "--quiet", "--pid", pid, *arguments)
