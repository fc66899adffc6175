"""The agent's history is read by workload and time, and says what is missing from it and why."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from past import SECOND, TRITON, VLLM, at, keep, rebooted

from excise.history import HistoryError, Range, history_report, kept_in
from excise.report import History, Report
from excise.spool import Entry, Spool
from excise.summary import merge
from excise.workload import Workload

START = 1_800_000_000 * SECOND
WINDOW = 10 * SECOND
ALL = Range(None, None)


def past(report: Report) -> History:
    assert report.history is not None
    return report.history


def holes(report: Report) -> list[tuple[float, float, str | None]]:
    """Seconds since START."""
    return [((h.start_wall_ns - START) / SECOND, (h.end_wall_ns - START) / SECOND, h.reason)
            for h in past(report).holes]


def test_a_range_has_the_windows_in_it_and_no_others(tmp_path: Path) -> None:
    kept = keep(tmp_path, START, 30, (VLLM, TRITON))
    report = history_report(tmp_path, "vllm", Range(START + 5 * WINDOW, START + 15 * WINDOW))
    assert report.total_ns() == merge(*kept[5:15]).total_ns()
    assert past(report).workload == VLLM
    assert (past(report).windows, past(report).watched_ns, past(report).holes) == (10, 10 * WINDOW, ())


def test_a_range_that_begins_within_a_window_has_it_or_not_by_its_middle(tmp_path: Path) -> None:
    keep(tmp_path, START, 10)
    inside = past(history_report(tmp_path, None, Range(START + 4 * SECOND, START + 26 * SECOND)))
    assert (inside.start_wall_ns, inside.end_wall_ns, inside.holes) == (START, START + 3 * WINDOW, ())
    outside = past(history_report(tmp_path, None, Range(START + 6 * SECOND, START + 24 * SECOND)))
    assert (outside.start_wall_ns, outside.end_wall_ns, outside.holes) == (START + WINDOW, START + 2 * WINDOW, ())


def test_all_of_it_without_a_range(tmp_path: Path) -> None:
    keep(tmp_path, START, 7)
    assert past(history_report(tmp_path, None, ALL)).windows == 7


def test_lost_windows_are_holes_with_their_reason(tmp_path: Path) -> None:
    keep(tmp_path, START, 20, lost={5: "disk_full", 12: "meteor"}, absent=(16, 17))
    report = history_report(tmp_path, None, Range(START, START + 20 * WINDOW))
    assert holes(report) == [(50, 60, "the disk was full"), (120, 130, "meteor"), (160, 180, None)]
    assert past(report).watched_ns == 16 * WINDOW


def test_a_crash_is_a_hole_with_that_reason(tmp_path: Path) -> None:
    child = os.fork()
    if not child:
        try:
            spool = Spool(tmp_path, "agent-1", 200 << 20, 86400.0)
            (first, _) = spool.reserve(2)
            spool.append(Entry(first, VLLM, at(START)))
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    keep(tmp_path, START + 2 * WINDOW, 1)
    assert holes(history_report(tmp_path, None, ALL)) == [(10, 20, "the agent was killed")]


def test_a_start_of_the_host_is_told(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "agent-1", 200 << 20, 86400.0)
    for sequence, start, boot in ((1, 0, "a"), (2, 9, "b")):
        assert list(spool.reserve(1)) == [sequence]
        spool.append(Entry(sequence, VLLM, rebooted(at(START + start * WINDOW), boot)))
    spool.close()
    assert holes(history_report(tmp_path, None, ALL)) == [(10, 90, "the host was started again")]


def test_time_before_the_history_and_after_it_is_told(tmp_path: Path) -> None:
    keep(tmp_path, START, 3)
    report = history_report(tmp_path, None, Range(START - 60 * SECOND, START + 90 * SECOND))
    assert holes(report) == [(-60, 0, "before its history begins"), (30, 90, "after its history ends")]


def test_a_name_may_be_left_out_or_cut_short_where_it_is_clear(tmp_path: Path) -> None:
    keep(tmp_path / "one", START, 2)
    keep(tmp_path / "two", START, 2, (VLLM, TRITON))
    assert past(history_report(tmp_path / "one", None, ALL)).workload == VLLM
    assert past(history_report(tmp_path / "two", "triton", ALL)).workload == TRITON


@pytest.mark.parametrize(("name", "problem", "said"), [
    (None, "unclear", "triton.service, vllm"),
    ("t", "unclear", "triton.service"),
    ("nginx", "not there", "vllm"),
])
def test_which_workload_is_meant_must_be_clear(
    name: str | None, problem: str, said: str, tmp_path: Path
) -> None:
    keep(tmp_path, START, 2, (VLLM, TRITON, Workload("tgi.service", "unit")) if name == "t" else (VLLM, TRITON))
    with pytest.raises(HistoryError) as caught:
        history_report(tmp_path, name, ALL)
    assert caught.value.problem == problem and said in str(caught.value)


def test_an_empty_range_says_which_range_there_is(tmp_path: Path) -> None:
    keep(tmp_path, START, 3)
    with pytest.raises(HistoryError) as caught:
        history_report(tmp_path, None, Range(START + 3600 * SECOND, START + 7200 * SECOND))
    assert caught.value.problem == "not there"
    assert str(caught.value).startswith("nothing of vllm was watched in 2027-01-15 ")
    assert ": its history goes from 2027-01-15 " in str(caught.value)


def test_no_history_says_where_it_looked_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match="systemctl status excise") as caught:
        kept_in(tmp_path / "none")
    assert caught.value.problem == "unreadable" and str(tmp_path / "none") in str(caught.value)


def test_a_history_without_a_window_says_so(tmp_path: Path) -> None:
    Spool(tmp_path, "agent-1", 200 << 20, 86400.0).close()
    with pytest.raises(HistoryError, match="has no window yet"):
        history_report(tmp_path, None, ALL)


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_is_no_folder_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "spool"
    if kind == "file":
        path.write_text("x")
    else:
        keep(tmp_path / "real", START, 1)
        path.symlink_to(tmp_path / "real")
    with pytest.raises(HistoryError) as caught:
        kept_in(path)
    assert caught.value.problem == "unreadable" and str(path) in str(caught.value)


def test_damage_takes_windows_and_is_told_as_a_hole(tmp_path: Path) -> None:
    keep(tmp_path, START, 40)
    (segment,) = tmp_path.glob("*.summaries")
    content = bytearray(segment.read_bytes())
    middle = len(content) // 2
    content[middle:middle + 64] = bytes(64)
    segment.write_bytes(content)
    report = history_report(tmp_path, None, Range(START, START + 40 * WINDOW))
    history = past(report)
    assert 0 < history.windows < 40 and history.holes
    assert history.watched_ns == history.windows * WINDOW


def test_summaries_of_a_hostile_host_give_a_report_or_a_sentence(tmp_path: Path) -> None:
    """Whatever bytes are in it."""
    for number, content in enumerate((b"", b"\0" * 4096, b"excise-summaries 1\n" + b"\xff" * 300)):
        folder = tmp_path / str(number)
        folder.mkdir(0o700)
        (folder / "0000000001.summaries").write_bytes(content)
        with pytest.raises(HistoryError, match="no window yet"):
            history_report(folder, None, ALL)
