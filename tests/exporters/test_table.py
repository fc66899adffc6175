"""The terminal table: what it must say, and what it must never say."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console
from sample_report import make_report, make_stacks, nat, py, report_of

from excise.exporters._ledger import ledger_rows, state_columns
from excise.exporters._units import duration, percent, size
from excise.exporters.table import render_report
from excise.names import STAGES, STATES
from excise.report import Report, StackRow


def rendered(report: Report, width: int = 160, encoding: str = "utf-8", top: int = 3) -> str:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)  # strict: what cannot be encoded fails the test
    render_report(report, Console(file=stream, width=width, force_terminal=False), top)
    stream.flush()
    return raw.getvalue().decode(encoding)


def row_of(text: str, name: str) -> list[str]:
    """A ledger row's cells, split where two blanks part them."""
    line = next(line for line in text.splitlines() if line.strip().split("  ")[0] == name)
    return [cell.strip() for cell in line.strip().split("  ") if cell.strip()]


def test_unknown_is_not_shown_as_zero() -> None:
    text = rendered(make_report())
    assert "not measured: gpu" in text
    heads, cells = row_of(text, "stage"), row_of(text, "compute")
    assert cells[heads.index("gpu")] == "-"
    assert cells[heads.index("sleep")] == "0 s"
    assert row_of(text, "serving")[heads.index("±")] == "-"  # its standard error is None in the sample


def test_unmeasured_host_counters_are_named_as_such() -> None:
    text = rendered(make_report(host={}, overhead={}, quality={}))
    assert "not measured of not measured cores used" in text
    assert "RSS not measured" in text
    assert "agent not measured, BPF not measured" in text
    assert "start-up not measured of CPU" in text


def test_ai_tax_is_said_with_what_it_divides() -> None:
    text = rendered(make_report())
    assert "AI tax 61.9 % ± 1.1 %: of the 15.3 s of carrier time that was not idle or handed off" in text
    assert "5.85 s were the model" in text


def test_nothing_to_divide_by_is_said() -> None:
    idle_only = report_of(tuple(row for row in make_stacks() if row.stage == "idle"))
    text = rendered(idle_only)
    assert "AI tax not measured: nothing left to divide by" in text
    assert row_of(text, "compute")[4] == "-"  # of busy: there is none


def test_an_empty_report_renders() -> None:
    empty = replace(report_of(()), processes=(), threads=(), helpers=(), target={}, notes=())
    assert "nothing left to divide by" in rendered(empty, 80)


@pytest.mark.parametrize("width", [80, 100, 120, 160])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1", "cp1252"])
def test_no_line_is_wider_than_the_console(width: int, encoding: str) -> None:
    text = rendered(make_report(), width, encoding)
    assert max(map(len, text.splitlines())) <= width
    assert "\x1b" not in text


def test_an_encoding_other_than_utf_8_gets_pure_ascii() -> None:
    stacks = (replace(make_stacks()[0], frames=(py("/srv/naïve.py", "größe"),)), *make_stacks()[1:])
    text = rendered(report_of(stacks), 80, "latin-1")
    assert text.isascii()
    assert "+/-" in text
    assert "gr\\xf6\\xdfe" in text


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_state_columns_of_a_row_add_up_at_every_width(width: int) -> None:
    """Hidden states are in `rest`, so that no time leaves the ledger with the column."""
    stacks = tuple(
        StackRow(STAGES[0], None, None, state, (), 1_000_000_000, 1, 1, "main", True)
        for state in STATES
        if state != "gpu"
    )
    text = rendered(report_of(stacks), width)
    cells = row_of(text, STAGES[0])
    shown = [float(cell.split()[0]) for cell in cells[5:] if cell != "-"]
    assert sum(shown) == pytest.approx(len(STATES) - 1)
    assert cells[1] == f"{len(STATES) - 1}.0 s"


def test_the_four_stages_that_users_ask_for_come_first() -> None:
    lines = rendered(make_report()).splitlines()
    at = {stage: next(i for i, line in enumerate(lines) if line.startswith(stage)) for stage in STAGES}
    assert sorted(STAGES, key=lambda s: at[s]) == list(STAGES)
    assert lines[at["postprocess"] - 1].startswith("──")


def test_stopped_has_a_column_only_where_something_was_stopped() -> None:
    assert "stopped" not in rendered(make_report(), 200)
    stopped = replace(make_stacks()[0], state="stopped")
    assert "stopped" in rendered(report_of((stopped, *make_stacks())), 200)


def test_only_losses_that_happened_are_named() -> None:
    text = rendered(make_report())
    assert "12 ring_full, 3 frame_gone" in text
    assert "walk_fault" not in text


def test_helpers_stay_out_of_the_shares() -> None:
    report = make_report()
    without = report_of(tuple(row for row in report.stacks if row.carrier))
    rows = [ledger_rows(r, state_columns(r)) for r in (report, without)]
    assert rows[0] == rows[1]
    assert "gemm_thread" not in rendered(report)


def test_names_cannot_write_escape_sequences_or_markup() -> None:
    frames = (
        py("/srv/app.py", "\x1b]0;owned\x07[red]name[/red]\n\u202eevil", 3),
        nat("/lib/a\x1b.so", "f\rg"),
    )
    row = replace(make_stacks()[0], frames=frames, wait="\x1b[2J")
    text = rendered(report_of((replace(row, ns=10**12), *make_stacks())), 160)
    assert not {"\x1b", "\x07", "\r", "\u202e"} & set(text)
    assert "[red]name[/red]\\x0a\\u202eevil" in text


def test_top_bounds_the_stacks_of_a_stage() -> None:
    counts = [rendered(make_report(), top=top).count(" of busy  ") for top in (0, 1, 2)]
    busy_stages = len(STAGES) - 2
    assert counts[1:] == [busy_stages + 1, 2 * busy_stages + 1]  # and the ledger's heading
    assert counts[0] == 1


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (None, "-"),
        (0, "0 s"),
        (17, "17 ns"),
        (999_600, "1.00 ms"),
        (1_500, "1.50 µs"),
        (59.96e9, "60.0 s"),
        (12_345_600_000_000, "12,346 s"),
        (-2_000_000, "-2.00 ms"),
    ],
)
def test_durations_have_three_digits_and_a_unit(ns: float | None, text: str) -> None:
    assert duration(ns) == text


def test_a_little_is_not_nothing() -> None:
    assert [percent(r) for r in (None, 0.0, 0.0004, 0.0005, 1.0)] == [
        "-",
        "0 %",
        "<0.1 %",
        "0.1 %",
        "100.0 %",
    ]


def test_sizes_are_in_powers_of_1024() -> None:
    assert [size(b) for b in (None, 0, 1023, 1024, 5 << 30)] == ["-", "0 B", "1023 B", "1.00 KiB", "5.00 GiB"]


WITHIN = "(budget 1.0 % of the target's CPU)"


@pytest.mark.parametrize(("agent", "words"), [(0.006, WITHIN), (0.02, "not kept: 2.30 %")])
def test_a_budget_that_was_not_kept_is_said(agent: float, words: str) -> None:
    cost = {"agent_cpu_ratio": agent, "bpf_cpu_ratio": 0.003, "tick_cpu_ratio": None, "target_cpu_ns": 20 * 10**9}
    governor = {"budget_ratio": 0.01, "step": "everything", "steps_ns": {"everything": 10**10}}
    text = rendered(make_report(overhead={**cost, "governor": governor}))
    assert words in " ".join(text.split())
