"""No program's time goes under another one's names, however alike their memory is."""

from __future__ import annotations

import subprocess

import pytest

from bpf.conftest import Observe, Seen, observe
from cpython.conftest import INTERPRETERS

__all__ = ["observe"]

PROGRAM = """
import time
def {name}():
    for n in range(20000): n * n
    time.sleep(0.001)
print(flush=True)
while True:
    {name}()
"""
NAMES = ("is_mine", "is_hers")

pytestmark = pytest.mark.bpf


@pytest.mark.parametrize("python", [p for v, p in INTERPRETERS.items() if v.startswith(("3.11", "3.13"))])
def test_two_programs_with_equal_addresses_keep_their_own_names(python: str, observe: Observe) -> None:
    """Without address randomisation their code lies at the same addresses, with the same keys from 3.12 on."""
    processes = [
        subprocess.Popen(["setarch", "-R", python, "-S", "-E", "-c", PROGRAM.format(name=name)], stdout=subprocess.PIPE,
                         env={"PYTHONHASHSEED": "0"})
        for name in NAMES
    ]
    try:
        for process in processes:
            assert process.stdout is not None and process.stdout.readline() == b"\n"
        one, two = (process.pid for process in processes)

        def enough(seen: Seen) -> bool:
            return all(len([r for r in seen.rows(pid) if seen.named(r)]) >= 10 for pid in (one, two))

        seen = observe(one, 60.0, stop=enough, others=(two,))
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    for pid, mine, hers in ((one, *NAMES), (two, *reversed(NAMES))):
        told = {str(frame[0]) for row in seen.rows(pid) for frame in seen.named(row)}
        assert mine in told and hers not in told
