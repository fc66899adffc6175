"""How long the faults last: as short as shows them, or with EXCISE_FAULTS=full (`make faults`) as the goals say."""

from __future__ import annotations

import os

FULL = os.environ.get("EXCISE_FAULTS") == "full"
KILLS = 50 if FULL else 6
CHURN_TARGETS, CHURN_S = (200, 60.0) if FULL else (60, 20.0)
