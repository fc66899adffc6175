"""The configuration's files: which there are, and whether they may be trusted."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from excise_agent.config.errors import Origin, Problem

DEFAULT_FILE: Final = Path("/etc/excise/config.toml")
MAX_BYTES: Final = 256 << 10  # finding the lines of a long array takes the square of its length


class Unreadable(Exception):  # noqa: N818 - it carries the problem, which the loader collects
    def __init__(self, path: Path, message: str) -> None:
        self.problem = Problem(Origin(str(path)), "", message)
        super().__init__(str(self.problem))


def read_files(path: Path | None, default: Path, privileged: bool) -> tuple[list[tuple[Path, str]], list[Problem]]:
    """The texts, in the order in which they count: the file, then conf.d beside it by name; later ones win.

    A default file need not be there. With privileges, what others can write is refused: it says who is watched, and
    names files to be read.
    """
    main = path if path is not None else default
    texts: list[tuple[Path, str]] = []
    problems: list[Problem] = []
    trusted = {0, os.geteuid()}
    for file in (main, *_beside(main, privileged, trusted, problems)):
        try:
            text, owner = _read(file, privileged, None if file is main else trusted)
        except FileNotFoundError:
            if file is not main or path is not None:
                problems.append(Problem(Origin(str(file)), "", "no such file"))
            continue
        except Unreadable as error:
            problems.append(error.problem)
            continue
        if file is main:
            trusted.add(owner)
        texts.append((file, text))
    return texts, problems


def is_privileged(status: Path = Path("/proc/self/status")) -> bool:
    """root, or any capability."""
    try:
        held = int(status.read_text().partition("CapEff:")[2].split()[0], 16)
    except (OSError, ValueError, IndexError):
        held = 0
    return os.geteuid() == 0 or held != 0


def _beside(main: Path, privileged: bool, trusted: set[int], problems: list[Problem]) -> list[Path]:
    folder = main.parent / "conf.d"
    try:
        found = folder.stat()
        names = sorted(p for p in folder.iterdir() if p.suffix == ".toml" and not p.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        problems.append(Problem(Origin(str(folder)), "", f"cannot be read: {error.strerror}"))
        return []
    objection = _objection(found, trusted | _owner(main)) if privileged else ""
    if objection:
        problems.append(Problem(Origin(str(folder)), "", objection))
        return []
    return names


def _owner(main: Path) -> set[int]:
    try:
        return {main.stat().st_uid}
    except OSError:
        return set()


def _read(path: Path, privileged: bool, trusted: set[int] | None) -> tuple[str, int]:
    """Its text and its owner. Raises FileNotFoundError and Unreadable. `trusted` None: the user named it, anyone's."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)  # a FIFO would block
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Unreadable(path, f"cannot be read: {error.strerror}") from error
    with os.fdopen(fd, "rb") as file:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise Unreadable(path, "is not a regular file")
        objection = _objection(found, trusted) if privileged else ""
        if objection:
            raise Unreadable(path, objection)
        try:
            content = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise Unreadable(path, f"cannot be read: {error.strerror}") from error
    if len(content) > MAX_BYTES:
        raise Unreadable(path, f"is larger than {MAX_BYTES >> 10} KiB, too large for a configuration")
    try:
        return content.decode(), found.st_uid
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Unreadable(path, f"is not UTF-8 text (line {line})") from error


def _objection(found: os.stat_result, trusted: set[int] | None) -> str:
    if found.st_mode & stat.S_IWOTH:
        return "anyone can write to it: chmod o-w"
    if trusted is not None and found.st_uid not in trusted:
        return f"belongs to user {found.st_uid}, who is neither root nor this user: chown root"
    return ""
