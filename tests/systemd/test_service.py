"""The package's life on one machine, from `apt install` to `apt purge`. In this order: each test goes on where the one
before it ended."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from .conftest import Package
from .rig import DEADLINE_S, Machine, until

UNIT = "excise.service"
TARGET = "inference.service"
CAPABILITIES = 1 << 39 | 1 << 38 | 1 << 19 | 1 << 2 | 1 << 40  # bpf, perfmon, sys_ptrace, dac_read_search, c/r
NEXT_VERSION = "99.0"


def main_pid(machine: Machine) -> int:
    return int(machine.show(UNIT, "MainPID") or 0)


def field(machine: Machine, name: str) -> str:
    """A line of the agent's /proc/PID/status."""
    text = machine.run("cat", f"/proc/{main_pid(machine)}/status").stdout
    return next(line.partition(":")[2].strip() for line in text.splitlines() if line.startswith(f"{name}:"))


def status(machine: Machine) -> dict[str, Any]:
    """Empty while it cannot be asked."""
    said = machine.ask("excise", "status", "--json")
    found: dict[str, Any] = json.loads(said) if said.startswith("{") else {}
    return found


def watched(machine: Machine) -> list[str]:
    return [workload["name"] for workload in status(machine).get("workloads", [])]


def active(machine: Machine) -> bool:
    return machine.show(UNIT, "ActiveState") == "active"


def restarted(machine: Machine, before: int, how: str) -> None:
    until(lambda: active(machine) and main_pid(machine) not in (0, before), f"a new agent after {how}")
    until(lambda: watched(machine) == [TARGET], "the new agent watches")


def override(machine: Machine, text: str) -> None:
    """A drop-in, as `systemctl edit` makes one."""
    folder = machine.root / f"etc/systemd/system/{UNIT}.d"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "override.conf").write_text(text)
    machine.run("systemctl", "daemon-reload")


def test_apt_installs_it_and_starts_nothing(machine: Machine) -> None:
    machine.run("apt-get", "install", "--yes", "--no-install-recommends", "/root/excise.deb")
    assert machine.ask("systemctl", "is-enabled", UNIT) == "disabled"
    assert machine.ask("systemctl", "is-active", UNIT) == "inactive"
    assert machine.run("getent", "passwd", "excise").stdout.strip().endswith(":/var/lib/excise:/usr/sbin/nologin")


def test_unit_is_as_systemd_wants_it(machine: Machine) -> None:
    checked = machine.run("systemd-analyze", "verify", "--man=no", UNIT)
    assert checked.stdout + checked.stderr == ""


def test_command_works_for_root_and_doctor_is_content(machine: Machine) -> None:
    assert machine.run("excise", "--version").stdout
    said = json.loads(machine.run("excise", "doctor", "--json").stdout)
    assert said["attach"] == "bpf"
    rows = {check["name"]: check for check in said["checks"]}
    assert "kernels are in it" in rows["numba_cache"]["found"]
    assert "probes are in it" in rows["probe_cache"]["found"]


def test_it_is_ready_once_enabled(machine: Machine) -> None:
    machine.run("systemctl", "enable", "--now", UNIT)  # returns when READY=1 has come
    assert active(machine)
    assert "nothing to watch" in machine.show(UNIT, "StatusText")
    assert machine.show(UNIT, "Type") == "notify"


def test_it_has_its_user_and_five_rights(machine: Machine) -> None:
    user = machine.run("id", "-u", "excise").stdout.strip()
    assert field(machine, "Uid").split() == [user] * 4
    for name in ("CapEff", "CapBnd", "CapAmb"):
        assert int(field(machine, name), 16) == CAPABILITIES
    assert field(machine, "NoNewPrivs") == "1"
    assert field(machine, "Seccomp") == "2"


def test_its_files_are_its_own(machine: Machine) -> None:
    paths = ["/var/lib/excise", "/var/cache/excise", "/var/cache/excise/agent", "/run/excise"]
    said = machine.run("stat", "--format=%U:%G %a", *paths, "/run/excise/control.sock").stdout.splitlines()
    assert said == ["excise:excise 700", "root:root 755", "excise:excise 700", "excise:excise 750", "excise:excise 660"]


def test_it_finds_what_another_service_starts(machine: Machine) -> None:
    shutil.copyfile(Path(__file__).parent / "targets/inference.py", machine.root / "usr/local/inference.py")
    machine.run("systemd-run", f"--unit={TARGET}", "--property=DynamicUser=yes", "python3", "/usr/local/inference.py")
    until(lambda: watched(machine) == [TARGET], "the target is watched")
    until(lambda: "watching 1 workload" in machine.show(UNIT, "StatusText"), "systemctl says so")
    until(lambda: status(machine)["workloads"][0]["windows"] > 0, "a window is written")


def test_first_start_compiled_nothing(machine: Machine) -> None:
    assert "compiling" not in machine.journal(UNIT)


def test_attach_by_root_asks_the_agent_and_sees_python(machine: Machine) -> None:
    pid = machine.show(TARGET, "MainPID")
    done = machine.run("excise", "attach", "--pid", pid, "--duration", "2s", "--quiet", "--folded", "-")
    assert "preprocess_image" in done.stdout


def test_history_gives_stacks_without_attaching(machine: Machine) -> None:
    stacks = machine.run("excise", "folded", "--workload", TARGET, "--last", "10m").stdout
    assert "preprocess_image" in stacks


def test_group_may_ask_the_agent_and_nobody_else(machine: Machine) -> None:
    gid = machine.run("getent", "group", "excise").stdout.split(":")[2]
    nobody = ["setpriv", "--reuid=65534", "--regid=65534"]
    asked = machine.run(*nobody, f"--groups={gid}", "excise", "status", "--json")
    assert json.loads(asked.stdout)["workloads"][0]["name"] == TARGET
    refused = machine.run(*nobody, "--clear-groups", "excise", "status", "--json", check=False)
    assert (refused.returncode, refused.stdout) == (3, "")


def test_reload_keeps_the_process_and_what_it_watches(machine: Machine) -> None:
    before = main_pid(machine)
    (machine.root / "etc/excise/conf.d/rate.toml").write_text("[agent]\nrate_hz = 23\n")
    machine.run("systemctl", "reload", UNIT)
    until(lambda: status(machine)["probes"]["rate_hz"] == 23, "the new rate")
    assert main_pid(machine) == before
    assert watched(machine) == [TARGET]


def test_killed_it_comes_back_and_says_what_was_lost(machine: Machine) -> None:
    before = main_pid(machine)
    machine.run("kill", "-KILL", str(before))
    restarted(machine, before, "kill -9")
    assert machine.show(UNIT, "NRestarts") == "1"
    assert status(machine)["spool"]["lost"].get("crash", 0) <= 1  # at most the window that was open


def test_hanging_it_is_killed_by_the_watchdog_and_comes_back(machine: Machine) -> None:
    override(machine, "[Service]\nWatchdogSec=5s\nTimeoutAbortSec=5s\n")
    machine.run("systemctl", "restart", UNIT)
    until(lambda: watched(machine) == [TARGET], "the agent with a short watchdog watches")
    before = main_pid(machine)
    machine.run("kill", "-STOP", str(before))
    restarted(machine, before, "a hang")
    assert "Watchdog timeout" in machine.journal(UNIT)
    shutil.rmtree(machine.root / f"etc/systemd/system/{UNIT}.d")
    machine.run("systemctl", "daemon-reload")


def test_it_stops_in_time_and_leaves_no_probe(machine: Machine) -> None:
    machine.run("systemctl", "stop", UNIT)
    assert machine.show(UNIT, "Result") == "success"  # not "timeout"
    assert not (machine.root / "run/excise").exists()
    assert machine.ask("systemctl", "is-active", TARGET) == "active"


def test_root_of_a_container_needs_the_five_rights_alone(machine: Machine) -> None:
    held = "-all,+bpf,+perfmon,+sys_ptrace,+dac_read_search,+checkpoint_restore"
    as_container = ["setpriv", f"--bounding-set={held}", f"--inh-caps={held}", "--no-new-privs"]
    rows = {check["name"]: check["status"]
            for check in json.loads(machine.run(*as_container, "excise", "doctor", "--json").stdout)["checks"]}
    assert [rows[name] for name in ("capabilities", "target", "probe_cache", "numba_cache")] == ["ok"] * 4
    pid = machine.show(TARGET, "MainPID")
    done = machine.run(*as_container, "excise", "attach", "--pid", pid, "--duration", "2s", "--quiet", "--folded", "-")
    assert "preprocess_image" in done.stdout
    assert "asking it" not in done.stderr  # itself: the agent is stopped


def test_wrong_configuration_is_named_and_not_tried_again(machine: Machine) -> None:
    wrong = machine.root / "etc/excise/conf.d/wrong.toml"
    wrong.write_text("nonsense = 1\n")
    assert machine.run("systemctl", "start", UNIT, check=False).returncode != 0
    assert machine.show(UNIT, "ActiveState") == "failed"
    assert machine.show(UNIT, "NRestarts") == "0"
    assert 'wrong.toml:1: unknown key "nonsense"' in machine.journal(UNIT)
    wrong.unlink()
    machine.run("systemctl", "reset-failed", UNIT)
    machine.run("systemctl", "start", UNIT)


def test_upgrade_restarts_what_runs_and_keeps_history_and_settings(
    machine: Machine, package: Package, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    subprocess.run(["dpkg-deb", "--raw-extract", package.deb, tree], check=True)
    control = tree / "DEBIAN/control"
    lines = control.read_text().splitlines()
    control.write_text("".join(
        f"Version: {NEXT_VERSION}\n" if line.startswith("Version:") else f"{line}\n" for line in lines
    ))
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, machine.root / "root/next.deb"],
                   check=True, stdout=subprocess.DEVNULL)
    (machine.root / "etc/excise/config.toml").write_text("# mine\n")
    agent, before = status(machine)["agent"]["id"], main_pid(machine)

    machine.run("apt-get", "install", "--yes", "--no-install-recommends", "/root/next.deb")

    restarted(machine, before, "the upgrade")
    assert machine.run("dpkg-query", "--show", "--showformat=${Version}", "excise").stdout == NEXT_VERSION
    assert status(machine)["agent"]["id"] == agent
    assert (machine.root / "etc/excise/config.toml").read_text() == "# mine\n"
    assert status(machine)["probes"]["rate_hz"] == 23


def test_removed_it_is_stopped_and_keeps_history_and_settings(machine: Machine) -> None:
    machine.run("apt-get", "remove", "--yes", "excise")
    assert machine.ask("systemctl", "is-active", UNIT) != "active"
    assert machine.ask("pgrep", "--full", "bin/excise agent") == ""
    for gone in ("usr/lib/excise", "usr/bin/excise", "run/excise", "var/cache/excise"):
        assert not (machine.root / gone).exists(), gone
    for kept in ("etc/excise/config.toml", "var/lib/excise"):
        assert (machine.root / kept).exists(), kept


def test_purged_nothing_is_left(machine: Machine) -> None:
    machine.run("apt-get", "purge", "--yes", "excise")
    journals = ("/var/log", "/root", "/usr/local", "/proc", "/sys")
    prune = " -o ".join(f"-path {path}" for path in journals)
    left = machine.run("sh", "-c", f"find / \\( {prune} \\) -prune -o -iname '*excise*' -print").stdout
    assert left == ""
    assert machine.ask("getent", "passwd", "excise") == ""
    assert machine.ask("getent", "group", "excise") == ""
    assert machine.ask("systemctl", "list-unit-files", "--no-legend", UNIT) == ""


def test_lintian_finds_no_error(package: Package) -> None:
    try:
        said, _ = package.lint.communicate(timeout=5 * DEADLINE_S)
    except subprocess.TimeoutExpired:
        pytest.fail("lintian took over 10 min")
    assert package.lint.returncode == 0, said
