"""The kernel's clock of BPF programs, on a program that was run a known number of times."""

from __future__ import annotations

import os
import struct

import pytest
from kernel_clock import PROG_TEST_RUN, RETURN_0, bpf_call, programs_of, running

from excise_agent import bpf

RUNS = 101


@pytest.mark.bpf
def test_each_run_is_counted_and_timed_while_the_clock_is_on() -> None:
    fd = bpf.load_program("bench_counted", bpf.PROG_RAW_TRACEPOINT, RETURN_0)
    try:
        with running():
            for _ in range(RUNS):
                bpf_call(PROG_TEST_RUN, struct.pack("<I", fd).ljust(80, b"\0"))
        counted = programs_of(os.getpid())["bench_counted"]
    finally:
        os.close(fd)
    assert counted.count == RUNS
    assert counted.ns > 0
