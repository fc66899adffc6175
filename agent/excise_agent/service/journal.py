"""Logging of a daemon: a line an event on standard error, with a priority for journald or a time for people.

Lines are escaped and cut (names of targets are hostile), and alike ones are limited: what comes too often is counted,
and the count is logged.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from excise.printable import printable

MAX_LINE: Final = 4096  # characters
BURST: Final = 5
PERIOD_S: Final = 10.0
MAX_KEYS: Final = 256  # messages that are told apart; there are fewer in the code
_PRIORITIES: Final = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))


def start_logging(
    level: str, *, fd: int = 2, environ: Mapping[str, str] | None = None, clock: Callable[[], float] = time.monotonic
) -> Journal:
    """Takes over the root logger. `level`: debug, info, warning or error."""
    to_journal = leads_to_journal(fd, os.environ if environ is None else environ)
    handler = Journal(functools.partial(os.write, fd), to_journal, clock)
    root = logging.getLogger()
    for other in root.handlers[:]:
        root.removeHandler(other)
    root.addHandler(handler)
    set_level(level)
    return handler


def set_level(level: str) -> None:
    logging.getLogger().setLevel(level.upper())


def leads_to_journal(fd: int, environ: Mapping[str, str]) -> bool:
    """JOURNAL_STREAM names the device and inode of what systemd connected; what was redirected is another."""
    try:
        found = os.fstat(fd)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


class Journal(logging.Handler):
    """Writes lines, and lets no message come too often: BURST of a kind in PERIOD_S. A kind is a format string.

    `write` gets a whole line: unbuffered, so that nothing is kept of one that cannot be written.
    """

    def __init__(
        self, write: Callable[[bytes], object], to_journal: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._put, self._to_journal = write, to_journal
        self._limits = _Limits(clock)

    def emit(self, record: logging.LogRecord) -> None:
        """Under the handler's lock. A line that cannot be written is lost: there is nobody to tell."""
        for count in self._limits.due((record.name, str(record.msg))):
            self._write(record.levelno, f"{count} more like the next were not logged")
        if self._limits.allow(record):
            self._write(record.levelno, _message(record))

    def turn(self) -> None:
        """To be called now and then: says what was not logged, also when nothing like it follows."""
        assert self.lock is not None
        with self.lock:
            for level, text, count in self._limits.over():
                self._write(level, f"{count} more were not logged like: {text}")

    def _write(self, level: int, text: str) -> None:
        line = printable(text[:MAX_LINE])
        if len(line) > MAX_LINE:
            line = line[: MAX_LINE - 3] + "..."
        if self._to_journal:
            line = f"<{_priority(level)}>{line}"
        else:
            line = f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {logging.getLevelName(level).lower()}: {line}"
        with contextlib.suppress(OSError):  # closed, full, or nobody reads
            self._put(f"{line}\n".encode())


@dataclass(slots=True)
class _Limit:
    since_s: float
    level: int
    text: str  # the first that was not logged
    logged: int = 0
    suppressed: int = 0


class _Limits:
    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._kinds: OrderedDict[tuple[str, str], _Limit] = OrderedDict()

    def due(self, kind: tuple[str, str]) -> list[int]:
        """How many of this kind were not logged, if its period is over."""
        found = self._kinds.get(kind)
        if found is None or self._clock() - found.since_s < PERIOD_S:
            return []
        del self._kinds[kind]
        return [found.suppressed] if found.suppressed else []

    def allow(self, record: logging.LogRecord) -> bool:
        kind = (record.name, str(record.msg))
        limit = self._kinds.get(kind)
        if limit is None:
            if len(self._kinds) >= MAX_KEYS:
                self._kinds.popitem(last=False)
            limit = self._kinds[kind] = _Limit(self._clock(), record.levelno, "")
        if limit.logged < BURST:
            limit.logged += 1
            return True
        if not limit.suppressed:
            limit.text, limit.level = _message(record), record.levelno
        limit.suppressed += 1
        return False

    def over(self) -> list[tuple[int, str, int]]:
        """Level, text and count of the kinds whose period is over; they begin anew."""
        now = self._clock()
        ended = [kind for kind, limit in self._kinds.items() if now - limit.since_s >= PERIOD_S]
        limits = [self._kinds.pop(kind) for kind in ended]
        return [(limit.level, limit.text, limit.suppressed) for limit in limits if limit.suppressed]


def _message(record: logging.LogRecord) -> str:
    """The text; an exception as its name, its sentence and where it was raised: never the values of variables."""
    try:
        text = record.getMessage()
    except (TypeError, ValueError):  # arguments that do not fit the format: a mistake of ours, and no reason to fail
        text = str(record.msg)
    if record.exc_info and record.exc_info[1] is not None:
        error = record.exc_info[1]
        frames = traceback.extract_tb(error.__traceback__, limit=-4)
        places = " < ".join(f"{os.path.basename(f.filename)}:{f.lineno}" for f in reversed(frames))  # noqa: PTH119
        text += f": {type(error).__name__}: {error}" + (f" ({places})" if places else "")
    return text


def _priority(level: int) -> int:
    """syslog's: debug is 7."""
    return next((priority for least, priority in _PRIORITIES if level >= least), 7)
