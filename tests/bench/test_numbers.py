"""The benchmark's statistics, on numbers whose answer is known."""

from __future__ import annotations

import pytest
from numbers_of import exponent, interval_of_mean, interval_of_median, interval_of_ratio


def test_a_power_law_has_its_exponent_and_no_error() -> None:
    sizes = [10, 50, 100, 500]
    slope, error = exponent(sizes, [3 * size**0.7 for size in sizes])
    assert slope == pytest.approx(0.7)
    assert error == pytest.approx(0, abs=1e-9)


def test_a_scattered_growth_has_an_error() -> None:
    slope, error = exponent([1, 10, 100], [1, 20, 100])
    assert slope == pytest.approx(1)
    assert 0.1 < error < 0.3


def test_equal_rounds_leave_no_doubt_about_their_ratio() -> None:
    assert interval_of_ratio([2.0, 4.0, 6.0], [1.0, 2.0, 3.0]) == (2.0, 2.0, 2.0)


def test_an_interval_holds_its_mean() -> None:
    mean, low, high = interval_of_mean([1.0, 2.0, 3.0, 4.0])
    assert low < mean == 2.5 < high


def test_one_block_that_lost_its_cpu_does_not_move_the_median() -> None:
    middle, low, high = interval_of_median([5.0] * 30 + [5000.0])
    assert (middle, low, high) == (5.0, 5.0, 5.0)
