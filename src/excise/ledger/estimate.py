"""Splits the time on a CPU over classes by samples, as a ratio estimate. Waits are split in `excise.ledger.waits`.

Shapes: T threads, S kernel states, C classes, M modes (0 user, 1 kernel). Units: ns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from excise.ledger.classes import NO_SAMPLE

MIN_SAMPLES = 5
"""A stratum with fewer is merged with its process's other small ones, then borrows from the whole process, then from
everyone. Carriers and helpers never lend to one another: they do different work."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def settle(totals: Ints) -> Ints:
    """Totals (T, S) without sums below zero: what those lack is taken off the thread's longest states.

    The kernel settles running time by the scheduler's clock at a switch-out, up to microseconds after the window's
    edge gave it to a state by the wall clock. A thread's lifetime stays.
    """
    out: Ints = np.maximum(totals, 0)
    for thread in np.flatnonzero((totals < 0).any(axis=1)):
        excess = int(out[thread].sum()) - max(int(totals[thread].sum()), 0)
        for state in np.argsort(-out[thread], kind="stable"):
            taken = min(excess, int(out[thread, state]))
            out[thread, state] -= taken
            excess -= taken
    return out


def split_stolen(stolen: Ints, running: Floats) -> Floats:
    """Stolen time (T,) over classes (T, C) as the running time (T, C): it was taken from that."""
    sums = running.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.nan_to_num(running / sums)
    share[sums[:, 0] <= 0, NO_SAMPLE] = 1.0
    out: Floats = share * stolen[:, None]
    return out


@dataclass(frozen=True, slots=True)
class RunningSplit:
    """`ns` (T, C, M) sums to each thread's running total; `covariance` (C, C) ns^2 of the carriers' class sums;
    `sample_ns` (T,) is the time that one sample (of weight one) of a thread stands for, 0 without any; `first` (T,) the
    first thread of its stratum: the samples of a stratum, not those of a thread, stand for its time."""

    ns: Floats
    covariance: Floats
    sample_ns: Floats
    first: Ints

    def variance(self, classes: Floats) -> float:
        """Of a sum over classes, each times its factor: (C,)."""
        return max(float(classes @ self.covariance @ classes), 0.0)


def split_running(
    running: Ints,
    stolen: Ints,
    samples: Ints,
    strata: Sequence[tuple[int, str]],
    carrier: NDArray[np.bool_],
    weights: Floats | None = None,
) -> RunningSplit:
    """A ratio estimate per stratum: a class has the share of the time that it has of the samples' weight.

    running, stolen (T,) exact ns, the latter for the covariance only: it is split alike; samples (T, C, M) counts;
    strata (T) of (pid, thread name without digits); carrier (T,); weights (T, C, M), of all samples of a cell together:
    None when each weighs one. The covariance is that of the sum of what each sample adds (linearised), so it holds
    where strata share samples.
    """
    heavy: Floats = samples.astype(np.float64) if weights is None else weights
    n_threads, n_classes, modes = samples.shape
    by_class = samples.sum(axis=2)
    counts = by_class.sum(axis=1)
    ns = np.zeros((n_threads, n_classes, modes))
    sample_ns, first = np.zeros(n_threads), np.arange(n_threads)
    worth, mean = np.zeros(n_threads), np.zeros((n_threads, n_classes))  # of a sample, over all whom it is lent to
    for population in (np.flatnonzero(carrier), np.flatnonzero(~carrier)):
        for members, lenders in _merge_small(counts[population], [strata[i] for i in population.tolist()]):
            members, lenders = population[members], population[lenders]
            n = float(heavy[lenders].sum())
            first[members] = members[0]
            if n <= 0:
                ns[members, NO_SAMPLE, 0] = running[members]
                continue
            share = heavy[lenders].sum(axis=0) / n
            ns[members] = running[members, None, None] * share[None]
            sample_ns[members] = float(running[members].sum()) / n
            per_sample = float((running + stolen)[members].sum()) / n
            worth[lenders] += per_sample
            mean[lenders] += per_sample * share.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):  # of a sum of n alike, each of weight w: n w^2
        squares = np.nan_to_num(heavy.sum(axis=2) ** 2 / by_class)
    counted = np.where(carrier, squares.sum(axis=1), 0)
    of_class = np.where(carrier[:, None], squares, 0) * worth[:, None]
    mixed = of_class.T @ mean
    covariance = np.diag(worth @ of_class) - mixed - mixed.T + mean.T @ (counted[:, None] * mean)
    return RunningSplit(ns, covariance, sample_ns, first)


def _merge_small(counts: Ints, strata: Sequence[tuple[int, str]]) -> list[tuple[Ints, Ints]]:
    """(members, lenders) by final stratum: whose time is split, and whose samples say how."""
    by_stratum: dict[tuple[int, str], list[int]] = {}
    by_process: dict[int, list[int]] = {}
    for i, key in enumerate(strata):
        by_stratum.setdefault(key, []).append(i)
        by_process.setdefault(key[0], []).append(i)
    out: list[tuple[Ints, Ints]] = []
    small: dict[int, list[int]] = {}
    for key, members in by_stratum.items():
        # a thread with samples of its own is a stratum of its own: before 3.14 Python's threads all have one name
        out += [(np.array([i]), np.array([i])) for i in members if counts[i] >= MIN_SAMPLES]
        few = [i for i in members if counts[i] < MIN_SAMPLES]
        if not few:
            continue
        if counts[few].sum() >= MIN_SAMPLES:
            out.append((np.array(few), np.array(few)))
        elif counts[members].sum() >= MIN_SAMPLES:
            out.append((np.array(few), np.array(members)))
        else:
            small.setdefault(key[0], []).extend(few)
    rest: list[int] = []
    for pid, members in small.items():
        if counts[members].sum() >= MIN_SAMPLES:
            out.append((np.array(members), np.array(members)))
        elif counts[by_process[pid]].sum() >= MIN_SAMPLES:
            out.append((np.array(members), np.array(by_process[pid])))
        else:
            rest.extend(members)
    if rest:
        everyone = np.arange(len(strata)) if counts[rest].sum() < MIN_SAMPLES else np.array(rest)
        out.append((np.array(rest), everyone))
    return out
