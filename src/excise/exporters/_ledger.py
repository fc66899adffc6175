"""The ledger's cells: stages by states, with shares, their errors and a sum. Table and page print them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from excise.exporters._facts import busy_ns
from excise.exporters._labels import ON_CPU
from excise.exporters._units import ratio
from excise.names import STAGES, STATES, SUBSTAGES
from excise.report import Report

RowKind = Literal["stage", "sub", "rest", "sum"]

FIRST_STAGES: Final = 4
"""The stages that users ask for; a line parts them from the others."""

STATE_COLUMNS: Final = {"on-CPU": ON_CPU, **{state: (state,) for state in STATES if state not in ON_CPU}}


@dataclass(frozen=True, slots=True)
class Column:
    """A state column and its time over all stages; None: no stage measured it."""

    name: str
    total_ns: int | None


@dataclass(frozen=True, slots=True)
class Row:
    kind: RowKind              # `rest` is the first stage below the line
    name: str                  # of STAGES, of SUBSTAGES, or "sum"
    label: str
    total_ns: int | None
    share: float | None        # of all carrier time
    share_se: float | None
    busy_share: float | None   # of the time that is neither idle nor handed off
    in_busy: bool              # False: idle and handoff have no such share
    states_ns: dict[str, int | None]   # by column


def state_columns(report: Report) -> list[Column]:
    """Every state column, in the order of STATES; `stopped` only where something was stopped."""
    columns = []
    for name, states in STATE_COLUMNS.items():
        total = _sum(report.stages[stage].get(state) for stage in STAGES for state in states)
        if name != "stopped" or total:
            columns.append(Column(name, total))
    return columns


def ledger_rows(report: Report, columns: Sequence[Column]) -> list[Row]:
    """Stages in their order, the parts of compute below it, then the sum."""
    total, busy = report.total_ns(), busy_ns(report)
    rows = []
    for at, stage in enumerate(STAGES):
        in_busy = stage not in ("idle", "handoff")
        states = report.stages[stage]
        ns = _sum(states.values())
        rows.append(Row(
            kind="rest" if at == FIRST_STAGES else "stage", name=stage, label=stage,
            total_ns=ns, share=ratio(ns, total), share_se=ratio(report.stages_se_ns.get(stage), total),
            busy_share=ratio(ns, busy) if in_busy else None, in_busy=in_busy,
            states_ns=_cells(states, columns),
        ))
        if stage == "compute":
            rows += [_sub_row(report.substages[sub], sub, total, busy, columns)
                     for sub in SUBSTAGES if sub in report.substages]
    rows.append(Row(
        kind="sum", name="sum", label="sum", total_ns=total, share=ratio(total, total), share_se=None,
        busy_share=ratio(busy, busy), in_busy=True, states_ns={c.name: c.total_ns for c in columns},
    ))
    return rows


def _sub_row(
    states: Mapping[str, int | None], name: str, total: int, busy: int, columns: Sequence[Column]
) -> Row:
    ns = _sum(states.values())
    return Row(
        kind="sub", name=name, label=name.partition(".")[2],
        total_ns=ns, share=ratio(ns, total), share_se=None,
        busy_share=ratio(ns, busy), in_busy=True, states_ns=_cells(states, columns),
    )


def _cells(states: Mapping[str, int | None], columns: Sequence[Column]) -> dict[str, int | None]:
    return {c.name: _sum(states.get(state) for state in STATE_COLUMNS[c.name]) for c in columns}


def _sum(values: Iterable[int | None]) -> int | None:
    """Of what is known; None where nothing is."""
    known = [v for v in values if v is not None]
    return sum(known) if known else None
