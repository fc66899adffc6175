"""Folded stacks: sums, escapes, suffixes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_report import ker, make_report, make_stacks, nat, py, report_of

from excise.exporters.folded import Mode, encode_folded
from excise.report import StackRow


def pairs(text: str) -> list[tuple[list[str], int]]:
    """What any reader of the format does: the last blank parts the number, `;` parts the frames."""
    lines = [line.rpartition(" ") for line in text.split("\n") if line]
    return [(stack.split(";"), int(count)) for stack, _, count in lines]


def one(row: StackRow) -> list[str]:
    ((frames, _),) = pairs(encode_folded(report_of((row,))))
    return frames


ROW = replace(
    make_stacks()[0], stage="logging", reason=None, state="running_user", ns=5_000_000, wait="", carrier=True
)


def test_sums_are_preserved_to_half_a_microsecond() -> None:
    report = make_report()
    total_ns = sum(row.ns for row in report.stacks)
    assert abs(sum(n for _, n in pairs(encode_folded(report))) * 1000 - total_ns) <= 500


def test_many_stacks_under_a_microsecond_do_not_vanish() -> None:
    rows = tuple(replace(ROW, ns=400, frames=(py("a.py", f"f{i}"),)) for i in range(1000))
    assert sum(n for _, n in pairs(encode_folded(report_of(rows)))) == 400


def test_cpu_and_off_part_all() -> None:
    report = make_report()
    modes: tuple[Mode, ...] = ("all", "cpu", "off")
    total, cpu, off = (sum(n for _, n in pairs(encode_folded(report, mode))) for mode in modes)
    assert abs(total - cpu - off) <= 1
    assert cpu > 0 < off
    assert not any(frames[-1].startswith("[gil]") for frames, _ in pairs(encode_folded(report, "cpu")))


def test_an_unknown_mode_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'all', 'cpu' or 'off'"):
        encode_folded(make_report(), "on")  # type: ignore[arg-type]


def test_root_comes_first_and_the_wait_last() -> None:
    frames = (ker("futex_wait"), nat("/lib/libc.so.6", "syscall"), py("/srv/app/main.py", "main", 7))
    row = replace(ROW, thread="worker", state="gil", frames=frames)
    assert one(row) == [
        "worker",
        "logging",
        "main (app/main.py)",
        "syscall (libc.so.6)",
        "futex_wait_[k]",
        "[gil]",
    ]


def test_a_row_without_frames_says_why() -> None:
    assert one(replace(ROW, stage="unattributed", reason="lost", frames=()))[-1] == "(lost)"


def test_helpers_are_not_counted_to_a_stage() -> None:
    assert one(replace(ROW, carrier=False))[1] == "helper"


def unescape(text: str) -> str:
    return text.encode("latin-1", "backslashreplace").decode("unicode_escape")


@given(st.text(min_size=1), st.text(min_size=1))
def test_any_name_survives_the_round_trip(name: str, thread: str) -> None:
    frames = one(replace(ROW, thread=thread, frames=(ker(name), py("", "main"))))
    assert frames[1:3] == ["logging", "main"]
    assert len(frames) == 4
    assert unescape(frames[0]) == thread
    assert unescape(frames[3]) == f"{name}_[k]"


@given(st.text(), st.text())
def test_no_file_or_name_adds_a_frame_or_a_line(file: str, name: str) -> None:
    text = encode_folded(report_of((replace(ROW, frames=(nat(file, name), py(file, name))),)))
    assert text.count("\n") == 1 and len(text.splitlines()) == 1
    assert text.count(";") == 3
