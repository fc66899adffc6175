"""Windows into one summary, however many there are, in memory that does not grow with their number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from excise.summary import Cell, CellKey, Merger, Summary, TaxError, compact

MOST_STACKS: Final = 40_000
"""Kept, and half of them when there are more: 0.5 kB each with their share of the frames."""

_UNSAMPLED: Final = "unattributed.no_sample"


class Fold:
    """Adds windows up. What `merge` does, but for two things.

    Stacks beyond MOST_STACKS are dropped, lightest first (`compact`): their time stays in their cells.

    The tax's error stays known where a quiet window had no sample at all, as windows of a service that idles do. Their
    running time has no stage, counts as tax, and may all have been the model: it goes into the error whole, as a bias
    and not as chance, so that such windows do not make up for each other. Where nothing was ever sampled, or the error
    is unknown for another reason, it stays unknown.
    """

    def __init__(self, most_stacks: int = MOST_STACKS) -> None:
        self._most = most_stacks
        self._merger = Merger()
        self._known_errors = 0
        self._unsampled_us = 0
        self.longest_ns = 0
        """Of the windows, by the wall clock."""

    def add(self, summary: Summary) -> None:
        for spans in summary.spans.values():
            self.longest_ns = max(self.longest_ns, *(s.end_wall_ns - s.start_wall_ns for s in spans))
        if summary.tax_error is not None:
            self._known_errors += summary.windows
        elif (unsampled_ns := _only_unsampled_ns(summary.cells)) is not None:
            self._unsampled_us += unsampled_ns // 1000 + 1
            summary = replace(summary, tax_error=_of_the_sampled(summary))
        self._merger.add(summary)
        if self._merger.stacks > self._most:
            kept = compact(self._merger.result(), self._most // 2)
            self._merger = Merger()
            self._merger.add(kept)

    def result(self) -> Summary:
        """The sum of what was added so far."""
        whole = self._merger.result()
        error = whole.tax_error
        if error is None or not self._unsampled_us:
            return whole
        if not self._known_errors:
            return replace(whole, tax_error=None)
        bias = self._unsampled_us * self._unsampled_us
        return replace(whole, tax_error=TaxError(
            error.compute_us2 + bias, error.tax_us2 + bias, error.covariance_us2 - bias))


def _only_unsampled_ns(cells: Mapping[CellKey, Cell]) -> int | None:
    """The time that no sample stands for, when nothing else has an unknown error."""
    unknown = [(key, cell) for key, cell in cells.items() if cell.variance_us2 is None]
    if any(key.cls != _UNSAMPLED for key, _ in unknown):
        return None
    return sum(cell.ns for _, cell in unknown)


def _of_the_sampled(summary: Summary) -> TaxError:
    """Of what was sampled in a window that was so in a part only. Its covariances are gone, its stages' variances are
    not: what is not compute is tax, but for what is parked."""
    variance = summary.stage_variances_us2.get("compute") or 0
    return TaxError(variance, variance, -variance)
