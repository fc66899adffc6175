"""Real processes on this host. Others come and go meanwhile: only our own are spoken of."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from real_processes import build_library, child, look_until, watches

from excise.workload import Workload
from excise_agent.config.schema import DiscoveryConfig, WorkloadRule
from excise_agent.discovery import Discovery, Identity
from excise_agent.host import children_of, read_comm, read_start_ns


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_library(tmp_path_factory.mktemp("a folder"))


@pytest.fixture
def discovery() -> Iterator[Discovery]:
    discovery = Discovery(DiscoveryConfig(libraries=("libtorch*.so*",), most_workloads=1000))
    discovery.look()
    yield discovery
    discovery.close()


def identity(pid: int) -> Identity:
    start_ns = read_start_ns(pid)
    assert start_ns is not None
    return Identity(pid, start_ns)


def test_a_library_that_is_loaded_late_is_found_and_its_end_reported(discovery: Discovery, library: Path) -> None:
    with child() as loader:
        for _ in range(3):
            discovery.look()
        assert not watches(discovery, loader.pid)
        loader.tell(f"load {library}")
        changes = look_until(discovery, lambda: watches(discovery, loader.pid))
        [found] = [found for found in changes.found if found.pid == loader.pid]
        assert found.identity == identity(loader.pid)
        assert (found.workload.kind, found.why) == ("process", "maps libtorch_cpu.so")
        assert found.workload.name == read_comm(loader.pid)
    changes = look_until(discovery, lambda: not watches(discovery, loader.pid))
    assert found.identity in changes.gone


def test_a_zombie_is_gone_before_its_parent_asks(discovery: Discovery, library: Path) -> None:
    with child() as loader:
        loader.tell(f"load {library}")
        look_until(discovery, lambda: watches(discovery, loader.pid))
        os.kill(loader.pid, signal.SIGKILL)
        look_until(discovery, lambda: not watches(discovery, loader.pid))
        assert loader.process.returncode is None  # nobody has asked
        for _ in range(3):
            discovery.look()
        assert not watches(discovery, loader.pid)


def test_it_is_found_after_an_exec(discovery: Discovery, library: Path) -> None:
    with child("sh", "-c", 'echo 0; read line; exec "$@"', "sh") as shell:
        look_until(discovery, lambda: discovery.counts.waiting == 0)
        before = identity(shell.pid)
        shell.tell("go", answer=False)
        assert shell.process.stdout is not None and int(shell.process.stdout.readline()) == shell.pid
        shell.tell(f"load {library}")
        changes = look_until(discovery, lambda: watches(discovery, shell.pid))
        assert before in [found.identity for found in changes.found]


def test_it_stays_watched_through_an_exec(discovery: Discovery, library: Path) -> None:
    with child() as loader:
        loader.tell(f"load {library}")
        look_until(discovery, lambda: watches(discovery, loader.pid))
        loader.tell("exec import time@print('done', flush=True)@time.sleep(600)")
        for _ in range(5):
            assert identity(loader.pid) not in discovery.look().gone
        assert watches(discovery, loader.pid)


def test_a_server_and_its_engine_are_one_and_the_shell_above_is_not(discovery: Discovery, library: Path) -> None:
    serve = f"""
import ctypes, os, signal, time
if os.fork() == 0:
    os.setpgid(0, 0) if os.fork() == 0 else None
    library = ctypes.CDLL({str(library)!r})
    os.write(1, b"done\\n")
signal.pause()
"""
    shell = subprocess.Popen(
        ["bash", "-c", 'set -m; "$@" & echo $!; wait', "bash", sys.executable, "-c", serve],
        stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    below: list[int] = []
    try:
        assert shell.stdout is not None
        root = int(shell.stdout.readline())
        assert [shell.stdout.readline() for _ in range(2)] == ["done\n"] * 2
        below = children_of(root)
        assert len(below) == 2
        changes = look_until(discovery, lambda: watches(discovery, root, *below))
        ours = {found.pid: found.workload for found in changes.found if found.pid in (root, shell.pid, *below)}
        assert ours == dict.fromkeys([root, *below], Workload(read_comm(root) or "", "process"))
    finally:
        for pid in (shell.pid, *children_of(shell.pid)):
            os.kill(pid, signal.SIGKILL)
        shell.communicate()


def test_two_hundred_that_are_born_and_die_are_found_and_forgotten(discovery: Discovery, library: Path) -> None:
    before = len(os.listdir("/proc/self/fd")) - discovery.counts.processes
    with child() as loader:
        loader.tell(f"load {library}")
        look_until(discovery, lambda: watches(discovery, loader.pid))
        for _ in range(3):
            loader.tell("fork 200")
            born = children_of(loader.pid)
            assert len(born) == 200
            look_until(discovery, lambda born=born: watches(discovery, *born))  # type: ignore[misc]
            for pid in born:
                os.kill(pid, signal.SIGKILL)
            ids = set(born)
            look_until(discovery, lambda ids=ids: not ids & {f.pid for f in discovery.watched})  # type: ignore[misc]
            loader.tell("reap 200")
    look_until(discovery, lambda: not watches(discovery, loader.pid))
    assert len(os.listdir("/proc/self/fd")) - discovery.counts.processes == before


# -- containers


def cgroup_mount() -> Path:
    """Of version 2, or of a hierarchy of version 1 where there is no other."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return Path(next(m[1] for kind in ("cgroup2", "cgroup") for m in mounts if m[2] == kind))


@pytest.fixture
def group() -> Iterator[tuple[Path, str]]:
    """A control group as docker makes one, and the container's id."""
    name = secrets.token_hex(32)
    path = cgroup_mount() / f"docker-{name}.scope"
    path.mkdir()
    yield path, name
    path.rmdir()


@pytest.mark.bpf  # needs root, as those do
def test_a_container_is_one_workload_by_the_hosts_pids(
    discovery: Discovery, library: Path, group: tuple[Path, str]
) -> None:
    path, name = group
    inside = ("sh", "-c", f'echo $$ > {path}/cgroup.procs && exec "$@"', "sh", "unshare", "--pid", "--fork", "--mount")
    with child(*inside) as server, child(*inside[:4]) as plain:
        engine = children_of(server.pid)[0]
        assert server.inner == 1 and engine != 1
        server.tell(f"load {library}")
        changes = look_until(discovery, lambda: watches(discovery, server.pid, engine, plain.pid))
        ours = {found.pid: found.workload for found in changes.found if found.pid in (server.pid, engine, plain.pid)}
        assert ours == dict.fromkeys(ours, Workload(name, "container")) and len(ours) == 3
        os.kill(engine, signal.SIGKILL)
        look_until(discovery, lambda: not watches(discovery, engine))
    look_until(discovery, lambda: not watches(discovery, server.pid) and not watches(discovery, plain.pid))


@pytest.mark.bpf
def test_a_rule_finds_a_container_that_maps_nothing(group: tuple[Path, str]) -> None:
    path, name = group
    rule = WorkloadRule("mine", container=f"{name[:20]}*")
    discovery = Discovery(DiscoveryConfig(libraries=(), workloads=(rule,)))
    with child("sh", "-c", f'echo $$ > {path}/cgroup.procs && exec "$@"', "sh") as plain:
        changes = look_until(discovery, lambda: watches(discovery, plain.pid))
        assert [(found.pid, found.workload) for found in changes.found] == [(plain.pid, Workload("mine", "rule"))]
    discovery.close()


def test_our_own_process_is_never_found() -> None:
    discovery = Discovery(DiscoveryConfig(libraries=("libc.so*", "libc-*.so"), most_workloads=10_000))
    with child() as plain:
        look_until(discovery, lambda: watches(discovery, plain.pid))
        assert not watches(discovery, os.getpid())
    discovery.close()
