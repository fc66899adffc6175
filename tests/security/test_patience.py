"""What one program makes us do is bounded, and does not come at the cost of the others."""

from __future__ import annotations

from excise_agent.patience import Patience


def test_it_ends_comes_back_with_time_and_is_never_more_than_full() -> None:
    now = [0.0]
    patience = Patience(100, 10, lambda: now[0])
    patience.spend(150)
    assert not patience.left()
    now[0] = 5.0
    assert not patience.left()
    now[0] = 5.5
    assert patience.left()
    now[0] = 1e6
    assert patience.left()
    patience.spend(100)
    assert not patience.left()
