"""Whatever processes do, what is told adds up, and nothing is kept of those that have gone."""

from __future__ import annotations

import random

import pytest
from fake_host import ID, LIBC, TORCH, FakeHost

from excise_agent.config.schema import WorkloadRule as Rule
from excise_agent.discovery import Found, Identity

GROUPS = ("0::/", "0::/system.slice/a.service", f"0::/docker/{ID}")


def disturb(host: FakeHost, chance: random.Random, alive: set[int]) -> None:
    """A process ends, begins, execs, moves or becomes a zombie; parents and times make no sense."""
    pid = chance.randrange(10, 40)
    if pid in alive and chance.random() < 0.5:
        host.remove(pid)
        alive.remove(pid)
        return
    alive.add(pid)
    host.add(
        pid, chance.randrange(1, 40), group=chance.randrange(0, 5) * 10, start=chance.randrange(1, 500),
        maps=(TORCH,) if chance.random() < 0.3 else (LIBC,), pages=chance.choice([0, 1000, 20_000, 90_000]),
        state=chance.choice("SZ"), cgroup=chance.choice(GROUPS), argv=(chance.choice(["python3", "xx", "no", "bash"]),),
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(6))
def test_found_and_gone_add_up_to_what_is_watched(host: FakeHost, seed: int) -> None:
    chance = random.Random(seed)
    rules = (Rule("named", command="x*"), Rule(command="no", ignore=True))
    discovery = host.discovery(*rules, most_workloads=chance.choice([3, 64]))
    told: dict[Identity, Found] = {}
    alive: set[int] = set()
    for _ in range(40):
        for _ in range(chance.randrange(6)):
            disturb(host, chance, alive)
        changes = host.look(discovery)
        for gone in changes.gone:
            del told[gone]
        for found in changes.found:
            assert found.identity not in told
            told[found.identity] = found
        assert {found.identity for found in discovery.watched} == set(told)
        assert {found.pid for found in told.values()} <= alive
    for pid in alive:
        host.remove(pid)
    assert {*host.look(discovery).gone} == set(told)
    assert discovery.counts.processes == discovery.counts.refused == 0
    assert not discovery._groups._groups and not discovery._live and not discovery._leaving
    assert not discovery._search._queue
