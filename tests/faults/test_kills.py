"""kill -9 of the agent at any moment, under load, with a sink that fails now and then."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from bpf.kernel_objects import ids, ids_of
from daemon.harness import AgentRun, lost, numbers, pauses, spans, wait_until, watches
from excise.spool import Entry
from faults.forward_receiver import TAKE, ForwardReceiver, moody
from faults.scale import KILLS

NAMES = ("one", "two", "three")
MOST_LIFE_S = 2.0  # of an agent after its first window
EARLY_ONE_IN = 4  # kills before it answers


@pytest.mark.bpf
def test_kills_at_any_moment_lose_nothing_but_what_is_counted(tmp_path: Path) -> None:
    draw = random.Random(KILLS)
    with ForwardReceiver(moody(7, 0.3)) as receiver, AgentRun(tmp_path, receiver.config, targets=NAMES) as run:
        for kill in range(KILLS):
            run.spawn()
            if kill % EARLY_ONE_IN == EARLY_ONE_IN - 1:
                time.sleep(draw.uniform(0.0, 3.0))  # in its imports, in its loading, in its first look
            else:
                run.until(watches(*NAMES))
                time.sleep(draw.uniform(0.0, MOST_LIFE_S))
            held = ids_of(run.pid)
            assert run.alive(), run.logged()
            run.kill()
            for kind, mine in held.items():
                wait_until(lambda kind=kind, mine=mine: not mine & ids(kind), f"{kind} of the agent are gone")
            assert all(target.works() for target in run.targets.values())

        receiver.mood = lambda: TAKE
        run.start()
        agent = run.until(watches(*NAMES))["agent"]["id"]
        run.until(lambda s: s["sinks"][0]["lag"] == 0, "the sink has caught up")
        run.stop()
        assert all(target.works() for target in run.targets.values())

        items = run.items()
        assert numbers(items) == list(range(1, len(numbers(items)) + 1))  # each once, in order, none is missing
        assert set(lost(items)) <= {"crash", "unused"}
        assert lost(items).get("crash", 0) <= KILLS * len(NAMES)  # no more than were under way
        for name in NAMES:
            assert pauses(spans(items, name)) <= KILLS  # whatever was watched is in the spool
        written = {(agent, item.sequence) for item in items if isinstance(item, Entry)}
        assert set(receiver.taken) <= written
        left = written - set(receiver.taken)
        last = run_last_delivered(receiver)
        assert all(number > last for _, number in left)  # written when it was stopped
        told = set(receiver.taken) | receiver.lost()
        assert {(agent, n) for n in range(1, last + 1)} <= told
        assert not set(receiver.taken) & receiver.lost()


def run_last_delivered(receiver: ForwardReceiver) -> int:
    return max(n for _, n in set(receiver.taken) | receiver.lost())
