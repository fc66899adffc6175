"""The error of what was seen in phases: of the time between them nothing is known, and within one a thread does much
the same all along. How far groups of phases differ says how far their sum may be off (random groups).

Source: Wolter, Introduction to Variance Estimation, 2nd ed., 2.4. Shapes: T threads, S kernel states, C classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from excise.batch import PHASE_GROUPS, SLICE_PHASE_SHIFT
from excise.ledger.classes import CLASSES
from excise.ledger.estimate import Floats, Ints
from excise.names import KERNEL_STATE_ID, KERNEL_STATES

_RUNNING, _RUNNABLE = KERNEL_STATE_ID["running"], KERNEL_STATE_ID["runnable"]
_C, _S = len(CLASSES), len(KERNEL_STATES)


def phase_errors(
    slices: NDArray[np.void], of_row: Ints, waits: Ints, runs: Ints, carrier: NDArray[np.bool_], state_ns: Ints
) -> Floats:
    """Covariance (C, C), ns^2, of the carriers' class sums, from the rows (n,) that were seen in phases: of threads
    of_row (n,), classed waits and runs (n,). state_ns (T, S): what the rows share out."""
    group = (slices["flags"] >> SLICE_PHASE_SHIFT).astype(np.int64)
    ours = carrier[of_row] & (slices["state"] != _RUNNING)
    seen = np.zeros((PHASE_GROUPS + 1, _S, _C))
    at = np.flatnonzero(ours)
    np.add.at(seen, (group[at], slices["state"][at].astype(np.int64), waits[at]), slices["weight_ns"][at])
    np.add.at(seen[:, _RUNNABLE], (group[at], runs[at]), slices["runnable_ns"][at])
    out = np.zeros((_C, _C))
    total = state_ns[carrier].sum(axis=0).astype(np.float64)
    for state in np.flatnonzero(seen[1:].any(axis=(0, 2))).tolist():
        exact, phased = seen[0, state].sum(), seen[1:, state]
        left, sums = max(total[state] - exact, 0.0), phased.sum(axis=0)
        whole = sums.sum()
        if whole <= 0 or left <= 0:
            continue
        share = sums / whole
        used = phased[phased.sum(axis=1) > 0]
        if len(used) < 2:
            out += left**2 * (np.diag(share) - np.outer(share, share))
            continue
        residual = used - used.sum(axis=1)[:, None] * share[None, :]
        out += (left / whole) ** 2 * len(used) / (len(used) - 1) * residual.T @ residual
    return out
