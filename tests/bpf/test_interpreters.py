"""The walk in the kernel against chains that the targets themselves announced, on every CPython found."""

from __future__ import annotations

import re

import pytest

from excise.names import KERNEL_STATE_ID

from .conftest import Observe, Start, until


@pytest.mark.parametrize("mode", ["sleep", "read", "deep", "coroutine", "thread", "fork"])
def test_chain_of_a_thread_that_blocks_all_the_time(python: str, mode: str, start: Start, observe: Observe) -> None:
    target = start(python, mode)
    until(target.blocks, f"{mode} blocks")
    seen = observe(target.pid, 0.3)
    rows = [r for r in seen.rows(target.tid) if r["weight_ns"] > 0]
    assert rows
    assert {str(seen.named(r)) for r in rows} == {str(target.expect)}
    lifetime = int(seen.totals()[target.tid]["lifetime_ns"])
    assert sum(int(r["weight_ns"]) for r in seen.rows(target.tid)) == pytest.approx(lifetime, rel=0.02)


def test_chain_of_a_busy_thread(python: str, start: Start, observe: Observe) -> None:
    target = start(python, "spin", blocks=False)
    seen = observe(
        target.pid,
        20,
        rate_hz=199,
        stop=lambda s: (
            sum(int(r["count"]) for r in s.rows(target.tid) if r["state"] == 0 and s.named(r) == target.expect) > 100
        ),
    )
    samples = [
        (seen.named(r), int(r["count"])) for r in seen.rows(target.tid) if r["state"] == KERNEL_STATE_ID["running"]
    ]
    good = sum(n for chain, n in samples if chain == target.expect)
    # the announcement itself may still be under way in the first sample
    assert good > 100 and good >= 0.99 * sum(n for _, n in samples)


def test_a_thread_that_waits_for_the_gil(python: str, start: Start, observe: Observe) -> None:
    target = start(python, "gil", blocks=False)
    seen = observe(
        target.pid,
        20,
        stop=lambda s: (
            sum(int(r["weight_ns"]) for r in s.rows(target.tid) if r["state"] == KERNEL_STATE_ID["gil"]) > 2e8
        ),
    )
    gil = [r for r in seen.rows(target.tid) if r["state"] == KERNEL_STATE_ID["gil"]]
    assert sum(int(r["weight_ns"]) for r in gil) > 1e8
    right = sum(int(r["weight_ns"]) for r in gil if seen.named(r) == target.expect)
    assert right > 0.95 * sum(int(r["weight_ns"]) for r in gil)


def test_functions_that_are_made_and_freed_keep_their_own_names(python: str, start: Start, observe: Observe) -> None:
    target = start(python, "exec-churn", blocks=False)

    def churned(s):
        return [f for f in s.frames if f.file.startswith("<churn")]

    seen = observe(target.pid, 30, rate_hz=499, stop=lambda s: len(churned(s)) > 15)
    names = churned(seen)
    # a function that is freed before its name is read is lost, not misnamed: how many are caught depends on the machine
    assert len(names) > 2
    for frame in names:
        n = int(re.fullmatch(r"<churn (\d+)>", frame.file).group(1))
        assert frame.name.split(".")[0] in (f"churn_{n}", "<listcomp>", "<module>"), frame
        first = (0, 1) if frame.name == "<module>" else (0,)  # before its first instruction a frame has its first line
        assert frame.line in (*first, n % 1000 + 1), frame
