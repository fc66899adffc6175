"""Variances of single cells of the ledger, ns^2. Cells that are split by the same records vary against each other:
the variance of a stage is not their sum but comes from the covariances.

Shapes: T threads, S kernel states, C classes, M modes.
"""

from __future__ import annotations

import numpy as np

from excise.ledger.estimate import Floats, Ints, RunningSplit
from excise.names import KERNEL_STATE_ID

_RUNNING = KERNEL_STATE_ID["running"]


def running_variances(on_cpu: RunningSplit) -> Floats:
    """(T, C, M): a share p of a stratum's time by n samples has p (1 - p) / n; members have their part of it."""
    total = on_cpu.ns.sum(axis=(1, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.nan_to_num(on_cpu.ns / total[:, None, None])
    out: Floats = on_cpu.ns * on_cpu.sample_ns[:, None, None] * (1 - share)
    return out


def wait_variances(off_cpu: Floats, scale: Floats, variances: Floats, se_ns: Ints) -> Floats:
    """(T, S, C), of off_cpu (T, S, C): scale (T, S) of the records, variances (T, S, C) of their sums, se_ns (T, S) of
    the totals. Linearised ratio estimator: what a class has more of a total, the others have less."""
    sums = off_cpu.sum(axis=2, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.nan_to_num(off_cpu / sums)
    whole = variances.sum(axis=2, keepdims=True)
    out: Floats = scale[:, :, None] ** 2 * ((1 - share) ** 2 * variances + share**2 * (whole - variances))
    out += (share * se_ns[:, :, None]) ** 2
    out[:, _RUNNING] = 0.0
    return out
