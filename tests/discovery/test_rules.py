"""The first rule that matches decides."""

from __future__ import annotations

import pytest
from fake_host import ID, LIBC, TORCH, FakeHost, by_pid

from excise_agent.config.schema import WorkloadRule as Rule

SERVE = ("/venv/bin/python3", "/srv/bin/serve-llm", "--key", "hunter2")


@pytest.mark.parametrize("rule", [
    Rule("llm", command="serve-llm"), Rule("llm", command="python3*"), Rule("llm", command="serve-*"),
    Rule("llm", unit="vllm@*.service"), Rule("llm", cgroup="/system.slice/vllm@*"),
    Rule("llm", user="serve"), Rule("llm", user="1000"),
    Rule("llm", command="serve-llm", unit="vllm@a.service", user="serve"),
], ids=str)  # fmt: skip
def test_each_kind_of_question_finds_a_process_that_maps_nothing(host: FakeHost, rule: Rule) -> None:
    host.add(50, argv=SERVE, exe="/usr/bin/python3.11", cgroup="0::/system.slice/vllm@a.service")
    changes = host.look(host.discovery(rule))
    assert by_pid(changes) == {50: ("rule", "llm")}
    assert changes.found[0].why == "rule 'llm' in the configuration"


@pytest.mark.parametrize("rule", [
    Rule("llm"), Rule("llm", command="serve-llm", user="root"), Rule("llm", command="hunter2"),
    Rule("llm", unit="*"), Rule("llm", container="*"), Rule("llm", command="serve"),
], ids=str)  # fmt: skip
def test_all_that_is_asked_must_match(host: FakeHost, rule: Rule) -> None:
    host.add(50, argv=SERVE)
    assert not host.look(host.discovery(rule)).found


@pytest.mark.parametrize(("argv", "name"), [
    (("python3", "-W", "ignore", "-u", "app/serve.py", "x.py"), "serve.py"),
    (("python3", "-m", "vllm.entrypoints.openai.api_server"), "vllm.entrypoints.*"),
    (("python3", "-Xdev", "serve.py"), "serve.py"),
    (("bash", "run.sh"), "run.sh"),
    (("VLLM::EngineCore",), "VLLM::EngineCore"),
])  # fmt: skip
def test_a_script_or_module_counts_as_the_command(host: FakeHost, argv: tuple[str, ...], name: str) -> None:
    host.add(50, argv=argv, exe="/usr/bin/python3.11")
    assert by_pid(host.look(host.discovery(Rule("it", command=name)))) == {50: ("rule", "it")}


def test_code_on_the_command_line_is_no_name(host: FakeHost) -> None:
    host.add(50, argv=("python3", "-c", "serve.py"))
    assert not host.look(host.discovery(Rule("it", command="serve.py"))).found


def test_a_rule_that_ignores_wins_over_a_library_and_over_later_rules(host: FakeHost) -> None:
    host.add(50, argv=SERVE, maps=(TORCH,))
    host.add(51, argv=("python3", "other.py"), maps=(TORCH,))
    discovery = host.discovery(Rule(command="serve-llm", ignore=True), Rule("all", user="serve"))
    assert by_pid(host.look(discovery)) == {51: ("rule", "all")}


def test_a_rule_that_ignores_comes_too_late_behind_one_that_matched(host: FakeHost) -> None:
    host.add(50, argv=SERVE)
    discovery = host.discovery(Rule("llm", command="serve-llm"), Rule(user="serve", ignore=True))
    assert by_pid(host.look(discovery)) == {50: ("rule", "llm")}


def test_what_is_ignored_is_no_member_either(host: FakeHost) -> None:
    unit = "0::/system.slice/vllm.service"
    host.add(50, cgroup=unit, maps=(TORCH,))
    host.add(51, cgroup=unit, argv=("node", "exporter.js"))
    discovery = host.discovery(Rule(command="exporter.js", ignore=True))
    assert by_pid(host.look(discovery)) == {50: ("unit", "vllm.service")}


def test_without_a_name_it_is_named_as_found(host: FakeHost) -> None:
    host.add(50, argv=SERVE, cgroup=f"0::/system.slice/docker-{ID}.scope")
    changes = host.look(host.discovery(Rule(container="4a6f4a*")))
    assert by_pid(changes) == {50: ("container", ID)}
    assert changes.found[0].why == "workload rule 1 in the configuration"


def test_a_rule_that_names_one_of_them_names_all_of_the_unit(host: FakeHost) -> None:
    unit = "0::/system.slice/vllm.service"
    host.add(50, cgroup=unit, argv=SERVE)
    host.add(51, 50, cgroup=unit, maps=(TORCH,), argv=("engine",))
    discovery = host.discovery(Rule("llm", command="serve-llm"))
    assert by_pid(host.look(discovery)) == {50: ("rule", "llm"), 51: ("rule", "llm")}


def test_a_name_that_comes_later_is_told_as_gone_and_found(host: FakeHost) -> None:
    unit = "0::/system.slice/vllm.service"
    host.add(51, cgroup=unit, maps=(TORCH,), argv=("engine",))
    discovery = host.discovery(Rule("llm", command="serve-llm"))
    assert by_pid(host.look(discovery)) == {51: ("unit", "vllm.service")}
    host.add(52, cgroup=unit, argv=SERVE)
    changes = host.look(discovery)
    assert [gone.pid for gone in changes.gone] == [51]
    assert by_pid(changes) == {51: ("rule", "llm"), 52: ("rule", "llm")}


def test_a_rule_is_asked_again_after_an_exec(host: FakeHost) -> None:
    host.add(50, argv=("bash",), comm="bash", pages=2000)
    discovery = host.discovery(Rule("llm", command="serve-llm"))
    assert not host.look(discovery).found
    host.add(50, argv=SERVE, maps=(LIBC,), pages=9000)
    assert by_pid(host.look(discovery)) == {50: ("rule", "llm")}


def test_nothing_of_the_command_line_is_told(host: FakeHost) -> None:
    host.add(50, argv=SERVE, maps=(TORCH,))
    discovery = host.discovery(Rule(command="serve-*"))
    assert "hunter2" not in repr(host.look(discovery)) + repr(discovery.watched)


def test_who_is_never_to_be_watched_is_told(host: FakeHost) -> None:
    host.add(50, argv=SERVE, maps=(TORCH,))
    host.add(51, argv=("python3", "other.py"))
    discovery = host.discovery(Rule(command="serve-llm", ignore=True))
    assert not host.look(discovery).found and discovery.ignored == {50}
