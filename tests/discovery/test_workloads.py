"""What belongs together is one workload."""

from __future__ import annotations

import pytest
from fake_host import ID, ID2, LIBC, TORCH, UID, FakeHost, by_pid

from excise_agent.config.schema import WorkloadRule as Rule

UNIT = "0::/system.slice/vllm.service"
SESSION = "0::/user.slice/user-1000.slice/session-3.scope"


def test_a_process_that_maps_a_runtime_is_found_and_says_why(host: FakeHost) -> None:
    host.add(50, maps=(LIBC, TORCH + " (deleted)"), cgroup=UNIT)
    host.add(60)
    [found] = host.look(host.discovery()).found
    assert (found.pid, found.start_ns, found.why) == (50, 150 * 10_000_000, "maps libtorch_cpu.so")


def test_a_server_without_the_library_belongs_to_the_engine_of_its_unit(host: FakeHost) -> None:
    host.add(50, cgroup=UNIT, comm="api")
    host.add(51, 50, cgroup=UNIT, maps=(TORCH,))
    host.add(52, 51, cgroup=UNIT + "/workers")
    host.add(60, cgroup="0::/system.slice/other.service")
    changes = host.look(host.discovery())
    assert by_pid(changes) == dict.fromkeys((50, 51, 52), ("unit", "vllm.service"))
    assert [found.why for found in changes.found] == [
        "in one unit with process 51", "maps libtorch_cpu.so", "in one unit with process 51",
    ]  # fmt: skip


def test_the_containers_of_a_pod_are_one_workload_and_others_are_not(host: FakeHost) -> None:
    host.add(50, cgroup=f"0::/kubepods/burstable/pod{UID}/{ID}", maps=(TORCH,))
    host.add(51, cgroup=f"0::/kubepods/burstable/pod{UID}/{ID2}")
    host.add(52, cgroup=f"0::/kubepods/burstable/pod{UID.replace('3', '4')}/{ID2}")
    assert by_pid(host.look(host.discovery())) == {50: ("pod", UID), 51: ("pod", UID)}


@pytest.mark.parametrize("cgroup", [SESSION, "0::/", "0::/init.scope", "0::/user.slice/user@1000.service/x.scope"])
def test_a_tree_begins_below_the_shell(host: FakeHost, cgroup: str) -> None:
    host.add(40, comm="sshd", argv=("sshd",), cgroup=cgroup)
    host.add(41, 40, comm="bash", argv=("bash",), cgroup=cgroup)
    host.add(50, 41, comm="serve", group=50, cgroup=cgroup)
    host.add(51, 50, comm="engine", group=50, maps=(TORCH,), cgroup=cgroup)
    host.add(52, 51, comm="worker", group=52, cgroup=cgroup)
    host.add(53, 50, comm="logger", group=53, cgroup=cgroup)
    host.add(60, 41, comm="vim", group=60, cgroup=cgroup)
    assert by_pid(host.look(host.discovery())) == dict.fromkeys((50, 51, 52, 53), ("process", "serve"))


def test_a_script_of_a_shell_is_not_climbed_even_in_one_process_group(host: FakeHost) -> None:
    host.add(41, comm="run.sh", argv=("bash", "run.sh"), group=41)
    host.add(50, 41, comm="python3", group=41, maps=(TORCH,))
    host.add(51, 41, comm="tail", group=41)
    assert by_pid(host.look(host.discovery())) == {50: ("process", "python3")}


def test_a_tree_does_not_reach_into_units(host: FakeHost) -> None:
    host.add(50, maps=(TORCH,))
    host.add(51, 50, cgroup="0::/system.slice/other.service")
    assert set(by_pid(host.look(host.discovery()))) == {50}


def test_children_and_grandchildren_join_as_they_come(host: FakeHost) -> None:
    host.add(50, maps=(TORCH,), comm="serve")
    discovery = host.discovery()
    host.look(discovery)
    host.add(52, 51)
    host.add(51, 50)
    changes = host.look(discovery)
    assert by_pid(changes) == {51: ("process", "serve"), 52: ("process", "serve")}
    assert [found.why for found in changes.found] == ["in one process tree with process 50"] * 2


def test_a_member_stays_when_its_parent_has_gone(host: FakeHost) -> None:
    host.add(50, maps=(TORCH,), comm="serve")
    host.add(51, 50)
    discovery = host.discovery()
    host.look(discovery)
    host.remove(50)
    host.add(51, 1)
    changes = host.look(discovery)
    assert ([gone.pid for gone in changes.gone], changes.found) == ([50], [])
    assert [found.pid for found in discovery.watched] == [51]


def test_a_child_that_is_older_than_its_parent_is_none(host: FakeHost) -> None:
    host.add(51, 50, start=100)
    host.add(50, maps=(TORCH,), start=200)
    assert set(by_pid(host.look(host.discovery()))) == {50}


def test_two_that_are_each_others_parents_do_not_hold_it_up(host: FakeHost) -> None:
    host.add(50, 51, group=50, start=100)
    host.add(51, 50, group=50, start=100, maps=(TORCH,))
    assert set(by_pid(host.look(host.discovery()))) == {50, 51}


def test_of_another_pid_namespace_nothing_above_is_guessed(host: FakeHost) -> None:
    host.add(50, group=50)
    host.add(51, 50, maps=(TORCH,))
    host.write(51, "stat", (host.root / "51/stat").read_text().replace(" S 50 51 ", " S 50 0 "))
    assert set(by_pid(host.look(host.discovery()))) == {51}


def test_the_kernels_threads_are_never_watched(host: FakeHost) -> None:
    host.add(2, 0, "kthreadd", flags=0x208040, pages=0)
    host.add(9, 2, "kworker", flags=0x4208060, pages=0)
    assert not host.look(host.discovery(Rule("all", user="*"))).found


def test_in_a_pid_namespace_process_2_is_a_process_like_others(host: FakeHost) -> None:
    host.add(2, 1, maps=(TORCH,), group=2)
    host.add(3, 2, group=2)
    assert set(by_pid(host.look(host.discovery()))) == {2, 3}


@pytest.mark.parametrize("argv", [
    ("/usr/bin/python3", "/usr/bin/excise", "agent"), ("excise", "attach"), ("python3", "-m", "excise_agent._compile"),
])  # fmt: skip
def test_excises_own_processes_are_never_watched(host: FakeHost, argv: tuple[str, ...]) -> None:
    host.add(50, argv=argv, maps=(TORCH,), cgroup=UNIT)
    host.add(51, cgroup=UNIT, argv=("node",))
    assert not host.look(host.discovery(Rule("all", user="*", command="python3"))).found


def test_excise_within_a_watched_unit_is_left_out(host: FakeHost) -> None:
    host.add(50, cgroup=UNIT, maps=(TORCH,))
    host.add(51, 50, cgroup=UNIT, argv=("/usr/bin/python3", "/usr/bin/excise", "attach"))
    assert set(by_pid(host.look(host.discovery()))) == {50}


def test_a_zombie_is_gone_and_not_found_again(host: FakeHost) -> None:
    host.add(50, maps=(TORCH,), cgroup=UNIT)
    host.add(51, cgroup=UNIT, maps=(TORCH,))
    discovery = host.discovery()
    host.look(discovery)
    host.add(51, cgroup=UNIT, pages=0, state="Z", maps=())
    host.add(52, cgroup=UNIT, pages=0, state="Z", maps=())
    changes = host.look(discovery)
    assert ([gone.pid for gone in changes.gone], changes.found) == ([51], [])
    host.add(53, cgroup=UNIT)
    assert set(by_pid(host.look(discovery))) == {53}


def test_a_leader_that_ended_before_its_threads_is_not_gone(host: FakeHost) -> None:
    host.add(50, maps=(TORCH,))
    discovery = host.discovery()
    host.look(discovery)
    host.add(50, pages=0, state="Z", threads=4, maps=())
    assert not host.look(discovery).gone
    host.add(50, pages=0, state="Z", threads=1, maps=())
    assert [gone.pid for gone in host.look(discovery).gone] == [50]


def test_more_workloads_than_allowed_wait_and_are_counted(host: FakeHost) -> None:
    for pid in (50, 51, 52):
        host.add(pid, cgroup=f"0::/system.slice/{pid}.service", maps=(TORCH,))
    host.add(53, cgroup="0::/system.slice/50.service")
    discovery = host.discovery(most_workloads=2)
    assert set(by_pid(host.look(discovery))) == {50, 51, 53}
    assert discovery.counts.refused == 1
    host.remove(51)
    changes = host.look(discovery)
    assert ([gone.pid for gone in changes.gone], set(by_pid(changes))) == ([51], {52})
    assert discovery.counts.refused == 0


def test_a_name_from_the_target_is_printable_and_bounded(host: FakeHost) -> None:
    host.add(50, comm="a\x1b[2J\n\u202e", maps=(TORCH,))
    host.write(50, "comm", b"a\x1b[2J\xff\n")
    [found] = host.look(host.discovery()).found
    assert found.workload.name == "a?[2J\ufffd"
