"""Splits the totals of waits over classes by the waits' own records.

Shapes: T threads, S kernel states, C classes. Units: ns.

The totals stand: the records say how to share them out. Where the governor left records out (thinned), the sums of the
others, each by its weight, are estimates; their variances are known, and the shares' follow from them (linearised ratio
estimator). A thread with too few of them borrows the shares of its stratum, as its running time does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from excise.ledger.classes import CLASSES, LOST, NO_SAMPLE, NO_STACK
from excise.ledger.estimate import MIN_SAMPLES, Floats, Ints
from excise.names import KERNEL_STATE_ID

ENOUGH = 30  # records from which a thread's own shares say how they scatter
_NO_WAITS = [KERNEL_STATE_ID["running"], KERNEL_STATE_ID["stolen"]]


@dataclass(frozen=True, slots=True)
class Thinned:
    """What thinned records are judged by: counts (T, S) of the records that came; variances (T, S, C), ns^2, of their
    sums; strata (T) of (pid, thread name without digits); carrier (T,)."""

    counts: Ints
    variances: Floats
    strata: Sequence[tuple[int, str]]
    carrier: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class WaitSplit:
    """`ns` (T, S, C) sums to each total, but for running and stolen, which are zero; `scale` (T, S) is what a recorded
    ns stands for; `covariance` (C, C) ns^2 of the carriers' class sums."""

    ns: Floats
    scale: Floats
    covariance: Floats


def split_waits(totals: Ints, records: Ints, some_lost: bool, thinned: Thinned | None = None) -> WaitSplit:
    """Time by thread, state and class, from totals (T, S) and the records' sums (T, S, C).

    When records were lost, what the others do not cover is `lost`. Else the records share out all of a total; time in
    a state without any record is `no_sample` if records were thinned, and `no_stack` if not.
    """
    sums: Floats = np.maximum(records, 0).astype(np.float64)
    recorded = sums.sum(axis=2)
    scale = np.where((recorded > totals) | (not some_lost), totals / np.maximum(recorded, 1), 1.0)
    scale = np.where(recorded > 0, scale, 0.0)
    covariance = np.zeros((len(CLASSES), len(CLASSES)))
    if thinned is None:
        ns = sums * scale[:, :, None]
    else:
        few = (thinned.counts < MIN_SAMPLES) & (2 * recorded < totals)
        scale[few & (recorded > 0)] = 1.0
        ns = sums * scale[:, :, None]
        few[:, _NO_WAITS] = False
        if not some_lost:
            covariance += _borrow(ns, np.where(few, totals - recorded, 0.0), sums, thinned)
        covariance += _own_errors(ns, scale, some_lost, thinned)
    missing = np.maximum(totals - ns.sum(axis=2), 0.0)
    ns[:, :, LOST if some_lost else NO_STACK if thinned is None else NO_SAMPLE] += missing
    ns[:, _NO_WAITS, :] = 0.0
    return WaitSplit(ns, scale, covariance)


def total_errors(se_ns: Ints, ns: Floats, carrier: NDArray[np.bool_]) -> Floats:
    """Covariance (C, C) of the carriers' class sums from the standard errors (T, S) of the totals that ns (T, S, C)
    shares out: a class has its share of the error."""
    uncertain = (se_ns > 0) & carrier[:, None]
    shares = _shares(ns[uncertain])
    return _rank_ones(se_ns[uncertain].astype(np.float64) ** 2, shares)


def _borrow(ns: Floats, lacking: Floats, sums: Floats, thinned: Thinned) -> Floats:
    """Adds what is lacking (T, S) to ns, by the shares of the stratum, else of the process; returns the covariance that
    comes with it. Carriers and helpers lend nothing to one another."""
    covariance = np.zeros((len(CLASSES), len(CLASSES)))
    if not lacking.any():
        return covariance
    carriers = thinned.carrier.tolist()
    for keys in (
        [(pid, name, c) for (pid, name), c in zip(thinned.strata, carriers, strict=True)],
        [(pid, "", c) for (pid, _), c in zip(thinned.strata, carriers, strict=True)],
    ):
        group, groups = _groups(keys)
        lent, spread = np.zeros((2, groups, *sums.shape[1:]))
        np.add.at(lent, group, sums)
        np.add.at(spread, group, thinned.variances)
        known = lent.sum(axis=2)
        shares = _shares(lent)
        given = np.where(known[group] > 0, lacking, 0.0)
        ns += given[:, :, None] * shares[group]
        lacking = lacking - given
        borrowed = np.zeros(known.shape)
        np.add.at(borrowed, group[thinned.carrier], given[thinned.carrier])
        at = (borrowed > 0) & spread.any(axis=2)
        covariance += _ratio_errors((borrowed[at] / known[at]) ** 2, spread[at], shares[at])
    return covariance


def _own_errors(ns: Floats, scale: Floats, some_lost: bool, thinned: Thinned) -> Floats:
    """Covariance (C, C) from the carriers' own records. What a class has more, the others have less: by their shares
    when the records share out a total; where they do not cover it, the rest has. A single record has all of its
    thread's share and would seem sure: few records scatter about their stratum's shares."""
    at = thinned.variances.any(axis=2) & thinned.carrier[:, None]
    at[:, _NO_WAITS] = False
    group, groups = _groups([(*key, True) for key in thinned.strata])
    pooled = np.zeros((groups, *ns.shape[1:]))
    np.add.at(pooled, group[thinned.carrier], ns[thinned.carrier])
    alone = thinned.counts[:, :, None] >= ENOUGH
    against = np.where(alone, _shares(ns), _shares(pooled)[group])[at]
    if some_lost:
        rest = scale[at] == 1.0
        against[rest] = 0.0
        against[rest, LOST] = 1.0
    return _ratio_errors(scale[at] ** 2, thinned.variances[at], against)


def _groups(keys: Sequence[tuple[int, str, bool]]) -> tuple[Ints, int]:
    """The number of each one's group, and how many there are."""
    number: dict[tuple[int, str, bool], int] = {}
    return np.array([number.setdefault(key, len(number)) for key in keys], np.int64), len(number)


def _ratio_errors(factors: Floats, variances: Floats, against: Floats) -> Floats:
    """Sum over n of factor x [diag(V) - r V' - V r' + r r' sum(V)]: (n,), V (n, C), r (n, C) -> (C, C)."""
    mixed = (factors[:, None] * against).T @ variances
    return (
        np.diag(factors @ variances) - mixed - mixed.T + _rank_ones(factors * variances.sum(axis=1), against)
    )


def _rank_ones(factors: Floats, vectors: Floats) -> Floats:
    out: Floats = (factors[:, None] * vectors).T @ vectors
    return out


def _shares(ns: Floats) -> Floats:
    """Each along the last axis, of their sum; zero where that is."""
    sums = ns.sum(axis=-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(sums > 0, ns / sums, 0.0)
