"""Children come and go, and the agent stays as it was: memory, descriptors, tables, the kernel's maps."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from soak.readings import Reading, complaints

STEPS = 4


@pytest.mark.bpf
@pytest.mark.parametrize(("children", "budget"), [(2500, None), (800, 0.01)], ids=["all_seen", "governed"])
def test_children_that_come_and_go_leave_nothing_behind(children: int, budget: float | None) -> None:
    command = [sys.executable, Path(__file__).with_name("soak.py"), "--json"]
    command += ["--children", str(children), "--steps", str(STEPS)]
    command += ["--budget", str(budget)] if budget else []
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    told = json.loads(done.stdout)
    readings = [Reading(**row) for row in told["readings"]]
    assert readings[-1].children == children
    assert told["processes"] >= children  # they were watched
    assert budget or told["slices"] >= children
    assert complaints(readings) == [], readings


FLAT = [Reading(i * 625, 150_000_000, 70_000_000, 45, 7_000_000, 1, 1, 1, 500 + i, 350_000 + 10 * i) for i in range(5)]


@pytest.mark.parametrize(("change", "complaint"), [
    ({"processes": 2501}, "processes that have ended are kept"),
    ({"threads": 2}, "processes that have ended are kept"),
    ({"descriptors": 100}, "descriptors are kept"),
    ({"map_bytes": 7_004_096}, "the kernel's maps have grown"),
    ({"pss_bytes": 201_000_000}, "PSS is too large"),
    ({"private_dirty_bytes": 73_000_000}, "private dirty memory grows"),
    ({"blocks": 352_000}, "objects are kept"),
])
def test_a_reading_that_is_not_flat_is_complained_of(change: dict[str, int], complaint: str) -> None:
    assert complaints(FLAT) == []
    assert complaints([*FLAT[:-1], replace(FLAT[-1], **change)]) == [complaint]
