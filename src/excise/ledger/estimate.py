"""Splits exact totals over classes: waits by their own records, time on a CPU by samples as a ratio estimate.

Shapes: T threads, S kernel states, C classes, M modes (0 user, 1 kernel). Units: ns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from excise.ledger.classes import LOST, NO_SAMPLE
from excise.names import KERNEL_STATE_ID

MIN_SAMPLES = 5
"""A stratum with fewer is merged with its process's other small ones, then with the whole process."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def split_waits(totals: Ints, records: Ints, some_lost: bool) -> Floats:
    """Time by thread, state and class, from exact totals (T, S) and the records' sums (T, S, C).

    The totals stand: the records say how to share them out. When records were lost, what the others do not cover is
    `lost`. The states running and stolen are left at zero.
    """
    covered = np.maximum(records, 0).astype(np.float64)
    sums = covered.sum(axis=2)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.where((sums > totals) | (not some_lost), totals / sums, 1.0)
    out: Floats = covered * np.nan_to_num(scale, posinf=0.0)[:, :, None]
    missing = totals - out.sum(axis=2)
    out[:, :, LOST] += np.maximum(missing, 0.0)
    out[:, [KERNEL_STATE_ID["running"], KERNEL_STATE_ID["stolen"]], :] = 0.0
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
    """`ns` (T, C, M) sums to each thread's running total; `variance` (C,) ns^2 of the class sums over `counted`
    threads; `sample_ns` (T,) is the time that one sample of a thread stands for, 0 without any."""

    ns: Floats
    variance: Floats
    sample_ns: Floats


def split_running(
    running: Ints, samples: Ints, strata: Sequence[tuple[int, str]], counted: NDArray[np.bool_]
) -> RunningSplit:
    """A ratio estimate per stratum: p = samples in a class / samples, variance T^2 p (1 - p) / n.

    running (T,) exact ns; samples (T, C, M) counts; strata (T) of (pid, thread name without digits); counted (T,)
    which threads' variance is asked for (the carriers).
    """
    n_threads, n_classes, modes = samples.shape
    flat = samples.reshape(n_threads, n_classes * modes)
    groups = _merge_small(flat.sum(axis=1), strata)
    ns = np.zeros((n_threads, n_classes, modes))
    variance = np.zeros(n_classes)
    sample_ns = np.zeros(n_threads)
    for members, lenders in groups:
        counts = flat[lenders].sum(axis=0)
        n = int(counts.sum())
        total = float(running[members].sum())
        if n == 0:
            ns[members, NO_SAMPLE, 0] = running[members]
            continue
        share = (counts / n).reshape(n_classes, modes)
        ns[members] = running[members, None, None] * share[None]
        sample_ns[members] = total / n
        p = share.sum(axis=1)
        part = float(running[members[counted[members]]].sum())
        variance += part**2 * p * (1 - p) / n
    return RunningSplit(ns, variance, sample_ns)


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
        if counts[members].sum() >= MIN_SAMPLES:
            out.append((np.array(members), np.array(members)))
        else:
            small.setdefault(key[0], []).extend(members)
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
