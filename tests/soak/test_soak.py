"""Children come and go, and the agent stays as it was: memory, descriptors, tables, the kernel's maps."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from soak.readings import Reading, complaints

CHILDREN, STEPS = 2500, 4


@pytest.mark.bpf
def test_two_and_a_half_thousand_children_leave_nothing_behind() -> None:
    command = [sys.executable, Path(__file__).with_name("soak.py"), "--json"]
    command += ["--children", str(CHILDREN), "--steps", str(STEPS)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    told = json.loads(done.stdout)
    readings = [Reading(**row) for row in told["readings"]]
    assert readings[-1].children == CHILDREN
    assert told["processes"] >= CHILDREN and told["slices"] >= CHILDREN  # they were watched
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
