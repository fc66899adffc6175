"""What a daemon logs, and how little of it can be made to matter."""

from __future__ import annotations

import io
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from excise_agent.service.journal import BURST, MAX_KEYS, MAX_LINE, PERIOD_S, Journal, leads_to_journal, start_logging

LOG = logging.getLogger("excise_agent.test")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lines(clock: Clock) -> Iterator[io.BytesIO]:
    stream = io.BytesIO()
    root = logging.getLogger()
    root.handlers[:] = [Journal(stream.write, True, clock)]
    root.setLevel(logging.DEBUG)
    yield stream


def said(lines: io.BytesIO) -> str:
    return lines.getvalue().decode()


def turn() -> None:
    handler = logging.getLogger().handlers[0]
    assert isinstance(handler, Journal)
    handler.turn()


def test_levels_are_priorities_of_syslog(lines: io.BytesIO) -> None:
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
        LOG.log(level, "level %d", level)
    assert said(lines).splitlines() == [
        "<7>level 10", "<6>level 20", "<4>level 30", "<3>level 40", "<2>level 50"]


def test_the_journal_is_known_by_the_streams_inode(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as stream:
        fd = stream.fileno()
        found = os.fstat(fd)
        environ = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        assert leads_to_journal(fd, environ)
        assert not leads_to_journal(fd, {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino + 1}"})
        assert not leads_to_journal(fd, {})
        start_logging("warning", fd=fd, environ=environ)
        LOG.warning("said")
        LOG.info("not said")
    assert (tmp_path / "log").read_text() == "<4>said\n"
    assert not leads_to_journal(-1, environ)


def test_elsewhere_lines_have_a_time(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as stream:
        start_logging("info", fd=stream.fileno(), environ={})
        LOG.info("naïve")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} info: naïve\n", (tmp_path / "log").read_text())


def test_an_event_is_one_line_whatever_a_target_is_called(lines: io.BytesIO) -> None:
    LOG.info("found %s", "evil\n<0>kernel panic\r\x1b[2J\u2028\u202e\ud800")
    assert said(lines) == "<6>found evil\\x0a<0>kernel panic\\x0d\\x1b[2J\\u2028\\u202e\\ud800\n"


def test_a_line_is_never_long(lines: io.BytesIO) -> None:
    LOG.info("found %s", "\x00" * 1_000_000)
    assert len(said(lines)) <= MAX_LINE + len("<6>\n")


def test_what_comes_too_often_is_counted_and_the_count_is_said(lines: io.BytesIO, clock: Clock) -> None:
    for number in range(BURST + 7):
        LOG.warning("lost %d", number)
    LOG.warning("another thing")
    assert said(lines).splitlines() == [f"<4>lost {n}" for n in range(BURST)] + ["<4>another thing"]
    lines.truncate(lines.seek(0))
    clock.now += PERIOD_S
    LOG.warning("lost %d", 99)
    assert said(lines).splitlines() == ["<4>7 more like the next were not logged", "<4>lost 99"]


def test_the_count_is_said_also_when_nothing_follows(lines: io.BytesIO, clock: Clock) -> None:
    for number in range(BURST + 3):
        LOG.warning("lost %d", number)
    lines.truncate(lines.seek(0))
    turn()
    assert said(lines) == ""
    clock.now += PERIOD_S
    turn()
    turn()
    assert said(lines) == f"<4>3 more were not logged like: lost {BURST}\n"


def test_any_number_of_kinds_takes_bounded_memory(lines: io.BytesIO) -> None:
    for number in range(10 * MAX_KEYS):
        LOG.info(f"kind {number}")
    handler = logging.getLogger().handlers[0]
    assert len(handler._limits._kinds) <= MAX_KEYS  # type: ignore[attr-defined]


def test_an_exception_is_a_line_without_values_of_variables(lines: io.BytesIO) -> None:
    password = "hunter2"
    try:
        int("x", len(password))
    except ValueError:
        LOG.exception("failed")
    text = said(lines)
    assert re.fullmatch(r"<3>failed: ValueError: .* \(test_journal\.py:\d+\)\n", text)
    assert "hunter2" not in text


def test_arguments_that_do_not_fit_are_no_failure(lines: io.BytesIO) -> None:
    logging.getLogger().handlers[0].handle(logging.LogRecord("x", logging.INFO, "", 0, "%d of %d", ("x",), None))
    assert said(lines) == "<6>%d of %d\n"


def test_a_stream_that_is_closed_or_full_is_survived(clock: Clock) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        start_logging("info", fd=full, clock=clock)
        LOG.error("x")
    finally:
        os.close(full)
    LOG.error("x")


def test_what_a_reader_never_reads_does_not_grow_here(clock: Clock) -> None:
    reading, writing = os.pipe2(os.O_NONBLOCK)
    start_logging("info", fd=writing, environ={}, clock=clock)
    for number in range(1000):
        LOG.error(f"{number} " + "x" * 1000)
    os.close(reading)
    LOG.error("nobody reads")
    os.close(writing)
