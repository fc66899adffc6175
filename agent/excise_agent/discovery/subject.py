"""What a rule may ask of a process. Each fact is read when it is first asked for; none of it is shown or kept."""

from __future__ import annotations

import contextlib
import os
import re
from functools import cached_property
from pathlib import Path
from typing import Final

from excise_agent.discovery.place import NOWHERE, Place, parse_place
from excise_agent.host import read_bytes, read_status_field

_INTERPRETER: Final = re.compile(r"(?:python|pypy|perl|ruby|node|bash|dash|sh|zsh|ksh|fish|php|lua)[\d.]*")
_TAKES_VALUE: Final = ("-W", "-X")  # of Python; written apart from their value
_CMDLINE_BYTES: Final = 4096


class Users:
    """Names of users, from the passwd file alone: asking a directory server could hold up the caller."""

    def __init__(self, passwd: Path = Path("/etc/passwd")) -> None:
        self._passwd = passwd
        self._names: dict[int, str] | None = None

    def name(self, uid: int) -> str:
        """ "" unknown."""
        if self._names is None:
            self._names = {}
            with contextlib.suppress(OSError):
                for line in self._passwd.read_text(errors="replace").splitlines():
                    fields = line.split(":")
                    if len(fields) > 2 and fields[2].isdigit():
                        self._names.setdefault(int(fields[2]), fields[0])
        return self._names.get(uid, "")


class Subject:
    """One process at one moment."""

    def __init__(self, pid: int, proc: Path, users: Users) -> None:
        self.pid = pid
        self._proc = proc
        self._users = users

    @cached_property
    def place(self) -> Place:
        raw = read_bytes(f"{self._proc}/{self.pid}/cgroup")
        return parse_place(raw) if raw is not None else NOWHERE

    @cached_property
    def users(self) -> tuple[str, ...]:
        """Of its effective user, number and name."""
        fields = (read_status_field(self.pid, "Uid", self._proc) or "").split()
        if len(fields) < 2 or not fields[1].isdigit():
            return ()
        name = self._users.name(int(fields[1]))
        return (fields[1], name) if name else (fields[1],)

    @cached_property
    def program(self) -> str:
        """The executable's base name; "" unknown."""
        try:
            path = os.readlink(f"{self._proc}/{self.pid}/exe")  # noqa: PTH115
        except OSError:
            return ""
        return path.removesuffix(" (deleted)").rpartition("/")[2]

    @cached_property
    def commands(self) -> frozenset[str]:
        """Names it may be called by: the executable's, its own word for it (argv[0]), and the script's or module's
        that an interpreter runs."""
        raw = read_bytes(f"{self._proc}/{self.pid}/cmdline", _CMDLINE_BYTES) or b""
        words = [os.fsdecode(word) for word in raw.rstrip(b"\0").split(b"\0")]
        names = {self.program, words[0].rpartition("/")[2]}
        if _INTERPRETER.fullmatch(self.program) or _INTERPRETER.fullmatch(words[0].rpartition("/")[2]):
            names.add(_script(words[1:]))
        return frozenset(names - {""})

    @property
    def is_excise(self) -> bool:
        """Whether it is one of our own programs: the agent, its compiler, `excise attach`."""
        return self.pid == os.getpid() or any(
            name == "excise" or name.startswith("excise_agent") for name in self.commands
        )


def _script(words: list[str]) -> str:
    """The script's base name, or the module behind -m; "" for code on the command line (-c)."""
    at = 0
    while at < len(words):
        word = words[at]
        if word == "-m":
            return words[at + 1] if at + 1 < len(words) else ""
        if word.startswith("-c") or word in ("-e", "-"):
            return ""
        if not word.startswith("-"):
            return word.rpartition("/")[2]
        at += 2 if word in _TAKES_VALUE else 1
    return ""
