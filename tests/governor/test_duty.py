"""Phases of the switch hooks: as much of the time as was asked for, at places that nothing can lock on to."""

from __future__ import annotations

from itertools import pairwise

import pytest

from excise_agent.duty import LEAST_ON_NS, PERIOD_NS, Duty


def phases(duty: Duty, count: int) -> list[tuple[int, int]]:
    duty.start(0)
    out = []
    for _ in range(count):
        begin = duty.next_ns
        duty.turned(True, begin)
        end = duty.next_ns
        duty.turned(False, end)
        out.append((begin, end))
    return out


@pytest.mark.parametrize("ratio", [1 / 2, 1 / 4, 1 / 16, 1 / 64, 1 / 128])
def test_the_hooks_are_on_for_that_share_of_the_time(ratio: float) -> None:
    seen = phases(Duty(ratio), 400)
    on = sum(end - begin for begin, end in seen)
    assert on / seen[-1][1] == pytest.approx(ratio, rel=0.02)
    assert min(end - begin for begin, end in seen) >= LEAST_ON_NS


def test_phases_follow_one_another_and_lie_anywhere_in_their_period() -> None:
    seen = phases(Duty(1 / 4), 400)
    assert all(a[1] <= b[0] for a, b in pairwise(seen))
    places = [begin % PERIOD_NS / PERIOD_NS for begin, _ in seen]
    assert min(places) < 0.1 and max(places) > 0.6


def test_a_late_turn_is_not_made_up_for() -> None:
    duty = Duty(1 / 2)
    duty.start(0)
    duty.turned(True, 5 * PERIOD_NS)
    duty.turned(False, 9 * PERIOD_NS)
    assert duty.next_ns >= 9 * PERIOD_NS
