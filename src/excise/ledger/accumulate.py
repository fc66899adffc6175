"""Rows and their classes into sums by thread, state and class: one pass, compiled."""

from __future__ import annotations

from typing import Any, Final

import numba as nb
import numpy as np
from numpy.typing import NDArray

from excise.batch import SLICE_KERNEL_MODE
from excise.ledger.classes import CLASSES
from excise.ledger.kernel import kernel
from excise.ledger.tally import SUM_FIELDS
from excise.names import KERNEL_STATE_ID, KERNEL_STATES
from excise.records import WEIGHT_ONE

_RUNNING, _RUNNABLE = KERNEL_STATE_ID["running"], KERNEL_STATE_ID["runnable"]
_COUNT, _WEIGHT_NS, _RUNNABLE_NS, _THINNED, _WEIGHT_VAR, _RUNNABLE_VAR = range(len(SUM_FIELDS))
_NS2: Final = 1e6  # in a us^2
_I8, _F8 = nb.int64, nb.float64


@kernel(
    nb.void(
        *[_I8[::1]] * 5, _I8[:, ::1], _I8[:, :, ::1], _F8[:, :, ::1], _I8[:, :, ::1], _F8[:, :, ::1], _I8[:, ::1]
    )
)
def accumulate_rows(
    threads: Any, states: Any, modes: Any, wait_class: Any, run_class: Any, values: Any,
    records: Any, variances: Any, samples: Any, weights: Any, counts: Any,
) -> None:
    """Adds rows (n,) with values (n, SUM_FIELDS) to the sums of `Sums`."""
    for i in range(threads.shape[0]):
        t, state = threads[i], states[i]
        count, thinned = values[i, _COUNT], values[i, _THINNED]
        if state == _RUNNING:
            samples[t, run_class[i], modes[i]] += count
            weights[t, run_class[i], modes[i]] += count + thinned / WEIGHT_ONE
            continue
        records[t, state, wait_class[i]] += values[i, _WEIGHT_NS]
        records[t, _RUNNABLE, run_class[i]] += values[i, _RUNNABLE_NS]
        variances[t, state, wait_class[i]] += values[i, _WEIGHT_VAR] * _NS2
        variances[t, _RUNNABLE, run_class[i]] += values[i, _RUNNABLE_VAR] * _NS2
        counts[t, state] += count
        if values[i, _RUNNABLE_NS] != 0:
            counts[t, _RUNNABLE] += count


class Sums:
    """records (T, S, C) ns and their variances (T, S, C) ns^2; samples (T, C, M) and their weights (T, C, M), in
    samples; counts (T, S) of wait records. T threads, S kernel states, C classes, M modes (0 user, 1 kernel)."""

    def __init__(self, threads: int) -> None:
        shape = (threads, len(KERNEL_STATES), len(CLASSES))
        self.records: NDArray[np.int64] = np.zeros(shape, np.int64)
        self.variances: NDArray[np.float64] = np.zeros(shape)
        self.samples: NDArray[np.int64] = np.zeros((threads, len(CLASSES), 2), np.int64)
        self.weights: NDArray[np.float64] = np.zeros((threads, len(CLASSES), 2))
        self.counts: NDArray[np.int64] = np.zeros((threads, len(KERNEL_STATES)), np.int64)

    def add(
        self, slices: NDArray[np.void], threads: NDArray[np.int64], wait_class: NDArray[np.int64],
        run_class: NDArray[np.int64],
    ) -> None:
        """Rows (n,), the thread of each (an index below T), and their classes."""
        values = np.empty((len(slices), len(SUM_FIELDS)), np.int64)
        for i, name in enumerate(SUM_FIELDS):
            values[:, i] = slices[name]
        accumulate_rows(
            threads, slices["state"].astype(np.int64), (slices["flags"] & SLICE_KERNEL_MODE).astype(np.int64),
            wait_class, run_class, values, self.records, self.variances, self.samples, self.weights, self.counts,
        )
