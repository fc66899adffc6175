"""The report on a terminal: at 80 columns and at 160, with colour and without, in Unicode or in ASCII."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from excise.exporters._costliest import CostlyStack, costliest, lighter_ns
from excise.exporters._facts import Fact, busy_ns, header_facts, quality_facts, tax_sentence
from excise.exporters._labels import frame_name, frame_place
from excise.exporters._ledger import Column, Row, ledger_rows, state_columns
from excise.exporters._units import duration, percent, ratio
from excise.frames import Frame
from excise.names import STAGES
from excise.printable import printable
from excise.report import HelperRow, Report

LEAF_FRAMES: Final = 6
LEAST_LIGHTER: Final = 0.001
NAME_WIDTH: Final = 60  # of a C++ symbol with its templates, what a reader takes in
_GAP: Final = 2
_BOX: Final = box.Box("    \n    \n ── \n    \n ── \n ── \n    \n    \n")
_ASCII_BOX: Final = box.Box("    \n    \n -- \n    \n -- \n -- \n    \n    \n", ascii=True)
_ASCII: Final = str.maketrans({"±": "+/-", "µ": "u", "×": "x", "←": "<-", "…": "...", "–": "-", "─": "-"})

Plain = Callable[[str], str]
"""Makes a text fit for the console's encoding."""


def render_report(report: Report, console: Console, top: int = 3) -> None:
    """Print everything a report knows; `top` stacks a stage. Writes to the console only."""
    plain = _plain_for(console.encoding)
    _print_facts(console, plain, header_facts(report))
    console.print()
    _print_ledger(console, plain, report)
    console.print()
    _print_wrapped(console, plain(f"{tax_sentence(report)}."), "bold")
    if report.helpers:
        _print_helpers(console, plain, report.helpers)
    if top > 0:
        _print_costliest(console, plain, report, top)
    _title(console, plain, "quality")
    _print_facts(console, plain, quality_facts(report))
    for note in report.notes:
        _print_wrapped(console, plain(f"note: {printable(note)}"))


def _plain_for(encoding: str) -> Plain:
    """UTF-8 takes everything; another encoding gets ASCII, with what it cannot say as escapes."""
    if encoding.lower().replace("_", "-").startswith("utf"):
        return lambda text: text
    return lambda text: text.translate(_ASCII).encode("ascii", "backslashreplace").decode()


def _title(console: Console, plain: Plain, name: str) -> None:
    console.print()
    console.print(Text(plain(name), "bold"))


def _print_wrapped(console: Console, text: str, style: str = "") -> None:
    console.print(Text(text, style), soft_wrap=False)


def _print_facts(console: Console, plain: Plain, facts: Iterable[Fact]) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, words in facts:
        table.add_row(Text(plain(name)), Text(plain(words)))
    console.print(table)


def _print_ledger(console: Console, plain: Plain, report: Report) -> None:
    columns = state_columns(report)
    rows = ledger_rows(report, columns)
    shown, hidden = _fitting(rows, columns, console.width)
    lines = _BOX if plain("─") == "─" else _ASCII_BOX
    table = Table(box=lines, show_edge=False, pad_edge=False, padding=(0, 0, 0, 1))
    table.add_column("stage", no_wrap=True)
    for name in _headings(shown, hidden):
        table.add_column(plain(name), justify="right", no_wrap=True)
    for row, after in zip(rows, [*rows[1:], None], strict=True):
        cells = [
            Text(plain(cell), "dim" if cell in ("0 s", "0 %", "-") else "")
            for cell in _cells(row, shown, hidden)
        ]
        style = "bold" if row.kind == "sum" else "dim" if row.kind == "sub" else ""
        section_ends = after is not None and after.kind in ("rest", "sum")
        table.add_row(Text(_row_name(row)), *cells, style=style, end_section=section_ends)
    console.print(table)
    if hidden:
        _print_wrapped(console, plain(f"rest: {', '.join(c.name for c in hidden)}"), "dim")
    if unknown := [c.name for c in columns if c.total_ns is None]:
        _print_wrapped(console, plain(f"not measured: {', '.join(unknown)}"), "dim")


def _fitting(rows: Sequence[Row], columns: Sequence[Column], width: int) -> tuple[list[Column], list[Column]]:
    """The columns to show and those to add up under `rest`.

    A narrow console drops what is zero or unknown first, then the smallest, and on-CPU last.
    """

    def fits(shown: Sequence[Column], hidden: Sequence[Column]) -> bool:
        lines = [_headings(shown, hidden), *(_cells(row, shown, hidden) for row in rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return max(len(_row_name(row)) for row in rows) + sum(w + _GAP for w in widths) <= width

    if fits(columns, []):
        return list(columns), []
    kept = [c for c in columns if c.total_ns]
    hidden: list[Column] = []
    while kept and not fits(kept, hidden):
        smallest = min(kept, key=lambda c: (c.name == "on-CPU", c.total_ns or 0))
        kept.remove(smallest)
        hidden = [c for c in columns if c == smallest or c in hidden]
    return kept, hidden


def _row_name(row: Row) -> str:
    return f"  {row.label}" if row.kind == "sub" else row.label


def _headings(shown: Sequence[Column], hidden: Sequence[Column]) -> list[str]:
    return ["time", "of all", "±", "of busy", *(c.name for c in shown), *(["rest"] if hidden else [])]


def _cells(row: Row, shown: Sequence[Column], hidden: Sequence[Column]) -> list[str]:
    cells = [
        duration(row.total_ns),
        percent(row.share),
        "" if row.kind == "sum" else percent(row.share_se),
        percent(row.busy_share) if row.in_busy else "",
        *(duration(row.states_ns[c.name]) for c in shown),
    ]
    if hidden:
        known = [ns for c in hidden if (ns := row.states_ns[c.name]) is not None]
        cells.append(duration(sum(known) if known else None))
    return cells


def _print_helpers(console: Console, plain: Plain, helpers: Sequence[HelperRow]) -> None:
    _title(console, plain, "helpers (pool threads without Python: outside the shares)")
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    for _ in range(2):
        table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row(*(Text(name, "dim") for name in ("library", "threads", "CPU time", "waits")))
    for helper in helpers:
        waits = [(state, ns) for state, ns in helper.states_ns.items() if state != "running" and ns]
        words = ", ".join(f"{state} {duration(ns)}" for state, ns in sorted(waits, key=lambda w: -w[1]))
        table.add_row(Text(plain(printable(helper.library))), Text(f"{helper.threads:,}"),
                      Text(plain(duration(helper.cpu_ns))), Text(plain(words or "none")))
    console.print(table)


def _print_costliest(console: Console, plain: Plain, report: Report, top: int) -> None:
    found = [(stage, stacks) for stage in STAGES if (stacks := costliest(report.stacks, stage, top))]
    if found:
        _title(console, plain, "costliest stacks (leaf first)")
    for stage, stacks in found:
        console.print(Text(plain(stage), "bold cyan") + Text(plain(_lighter_words(report, stage)), "dim"))
        parked = stage in ("idle", "handoff")
        whole, name = (report.total_ns(), "all") if parked else (busy_ns(report), "busy")
        for stack in stacks:
            head = f"  {duration(stack.ns)}  {percent(ratio(stack.ns, whole))} of {name}  {_state_mix(stack)}"
            console.print(Text(plain(head)), no_wrap=True, overflow="crop")
            for line in _stack_lines(stack, plain, console.width - 6):
                console.print(Text(f"      {line}", "dim"), no_wrap=True, overflow="crop")


def _lighter_words(report: Report, stage: str) -> str:
    """What a history has not kept the stacks of."""
    share = ratio(lighter_ns(report.stacks, stage), report.stage_ns(stage))
    return f" ({percent(share)} of it in lighter stacks)" if share and share >= LEAST_LIGHTER else ""


def _state_mix(stack: CostlyStack) -> str:
    if len(stack.states) == 1:
        words = stack.states[0][0]
    else:
        words = ", ".join(f"{state} {percent(ratio(ns, stack.ns))}" for state, ns in stack.states)
    if stack.wait:
        words += f"; waits on {printable(stack.wait)}"
    return f"{words} ({stack.reason})" if stack.reason else words


def _stack_lines(stack: CostlyStack, plain: Plain, width: int) -> list[str]:
    """Leaf-side frames in a row with arrows to their callers, broken at arrows only."""
    words = [plain(_frame_words(f)) for f in stack.frames[:LEAF_FRAMES]] or ["no stack"]
    if (more := len(stack.frames) - LEAF_FRAMES) > 0:
        words.append(f"{more} more")
    arrow = plain(" ← ")
    lines = [words[0]]
    for word in words[1:]:
        if len(lines[-1]) + len(arrow) + len(word) <= width:
            lines[-1] += arrow + word
        else:
            lines.append(arrow.lstrip() + word)
    return [line if len(line) <= width else line[: width - 3] + "..." for line in lines]


def _frame_words(frame: Frame) -> str:
    name = frame_name(frame)
    place = frame_place(frame)
    short = name if len(name) <= NAME_WIDTH else f"{name[:NAME_WIDTH - 1]}…"
    return f"{place} {short}" if place else short
