"""Line tables, against what each interpreter itself says about the functions of its standard library."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from excise_agent.cpython import line_of
from excise_agent.cpython.lines import UNKNOWN_LASTI

TELL = Path(__file__).parents[1] / "targets" / "line_tables.py"


def test_lines_of_the_standard_library_are_what_the_interpreter_says(python: str) -> None:
    told = subprocess.run([python, TELL], capture_output=True, text=True, check=True, timeout=120).stdout
    *codes, version = (json.loads(line) for line in told.splitlines())
    assert len(codes) > 400
    for table, first, lines in codes:
        linetable = bytes.fromhex(table)
        for unit in {*range(0, len(lines), 7), len(lines) - 1}:
            assert line_of(linetable, first, 2 * unit, version) == lines[unit]
        assert line_of(linetable, first, 2 * len(lines), version) is None


@pytest.mark.parametrize("lasti", [-1, -2, UNKNOWN_LASTI])
@pytest.mark.parametrize("version", [0x030A, 0x030B, 0x030E])
def test_before_the_first_instruction_is_the_first_line(lasti: int, version: int) -> None:
    assert line_of(b"", 42, lasti, version) == 42


def test_no_line_is_none() -> None:
    assert line_of(bytes([4, 1, 6, 0x80, 2, 1]), 10, 4, 0x030A) is None
    assert line_of(bytes([4, 1, 6, 0x80, 2, 1]), 10, 10, 0x030A) == 12
    assert line_of(bytes([0x80 | 15 << 3 | 1]), 10, 2, 0x030B) is None


@given(st.binary(max_size=200), st.integers(-(1 << 31), 1 << 31), st.integers(-10, UNKNOWN_LASTI),
       st.sampled_from([0x030A, 0x030B, 0x030C, 0x030D, 0x030E]))
def test_garbage_never_raises(table: bytes, first: int, lasti: int, version: int) -> None:
    assert isinstance(line_of(table, first, lasti, version), int | None)
