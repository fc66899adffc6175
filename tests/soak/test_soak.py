"""Children come and go, and the agent stays as it was: memory, descriptors, tables, the kernel's maps."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from soak.readings import Reading

pytestmark = pytest.mark.bpf

CHILDREN, STEPS = 2500, 4
MOST_PSS_BYTES, MOST_DIRTY_BYTES, MOST_MAP_BYTES = 200_000_000, 110_000_000, 32 << 20
LAST_QUARTER_BYTES = 1_000_000  # of growth; 10 to 70 kB, measured, and one arena of Python's allocator has 1 MB
BLOCKS_PER_NAME = 10  # a new frame or stack; 5 to 6, measured
BLOCKS_PER_CHILD = 0.5  # what kept a child in one table only would keep several


@pytest.fixture(scope="module")
def soak() -> dict[str, object]:
    command = [sys.executable, Path(__file__).with_name("soak.py"), "--json"]
    command += ["--children", str(CHILDREN), "--steps", str(STEPS)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    told: dict[str, object] = json.loads(done.stdout)
    return told


@pytest.fixture(scope="module")
def readings(soak: dict[str, object]) -> list[Reading]:
    rows = soak["readings"]
    assert isinstance(rows, list)
    return [Reading(**row) for row in rows]


def test_the_children_were_watched(soak: dict[str, object], readings: list[Reading]) -> None:
    assert readings[-1].children == CHILDREN
    assert isinstance(soak["processes"], int) and soak["processes"] >= CHILDREN
    assert isinstance(soak["slices"], int) and soak["slices"] >= CHILDREN


def test_a_child_that_has_ended_is_in_no_table(readings: list[Reading]) -> None:
    assert {(r.processes, r.procs, r.threads) for r in readings} == {(1, 1, 1)}


def test_no_descriptor_is_kept_for_a_child(readings: list[Reading]) -> None:
    assert readings[-1].descriptors == readings[1].descriptors


def test_memory_is_within_its_bounds_and_flat(readings: list[Reading]) -> None:
    assert max(r.pss_bytes for r in readings) <= MOST_PSS_BYTES
    assert max(r.private_dirty_bytes for r in readings) <= MOST_DIRTY_BYTES
    assert readings[-1].private_dirty_bytes - readings[-2].private_dirty_bytes <= LAST_QUARTER_BYTES


def test_objects_grow_with_names_that_are_new_and_not_with_children(readings: list[Reading]) -> None:
    first, last = readings[1], readings[-1]
    allowed = BLOCKS_PER_NAME * (last.names - first.names) + BLOCKS_PER_CHILD * (last.children - first.children)
    assert last.blocks - first.blocks <= allowed


def test_the_kernels_maps_keep_their_size(readings: list[Reading]) -> None:
    assert {r.map_bytes for r in readings} == {readings[0].map_bytes}
    assert readings[0].map_bytes <= MOST_MAP_BYTES
