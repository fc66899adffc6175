"""How long to wait before the next try."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

FIRST_S: Final = 1.0
MOST_S: Final = 60.0


def backoff_s(failures: int, draw: Callable[[], float] = random.random) -> float:
    """After so many failures in a row, from 1. Exponential with full jitter: a fleet whose server comes back does not
    come back all at once. `draw`: evenly from [0, 1)."""
    return draw() * min(MOST_S, FIRST_S * 2.0 ** min(failures - 1, 16))
