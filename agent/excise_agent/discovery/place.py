"""Where a process belongs by its control groups: pod, container, unit.

The names are the kernel's own (/proc/PID/cgroup); nothing is asked of a runtime's socket. See docs/discovery.md for
the formats.
"""

from __future__ import annotations

import functools
import os
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from excise.workload import Workload
from excise_agent.maps import printable

MAX_NAME: Final = 256  # characters; a control group's own name has at most 255 bytes

_UID: Final = r"[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32}"  # 32: a static pod
_POD: Final = re.compile(rf"(?:kube[^/]*-)?pod({_UID})(?:\.slice)?(?::.*)?")
_ID: Final = re.compile(r"(?:.*[-:_])?([0-9a-f]{64})(?:\.scope)?")  # docker-, libpod-, crio-, cri-containerd-, :x:
_MACHINE: Final = re.compile(r"machine-(.+)\.scope|systemd-nspawn@(.+)\.service|lxc\.payload\.(.+)")
_MONITOR: Final = re.compile(r".*conmon-[0-9a-f]{64}.*|lxc\.monitor.*")  # stands beside a container, not in it
# Units that carry what other people start, where no session of its own is made for them.
_CARRIERS: Final = (
    "ssh.service", "sshd.service", "ssh@*.service", "sshd@*.service", "cron.service", "crond.service", "atd.service",
    "getty@*.service", "serial-getty@*.service", "console-getty.service", "container-getty@*.service",
    "user@*.service", "systemd-logind.service",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """Empty strings: in none, or not known."""

    paths: tuple[str, ...] = ()  # of all hierarchies, as they read
    pod: str = ""  # uid, with dashes
    containers: tuple[str, ...] = ()  # ids or names, the outermost first
    unit: str = ""  # the innermost; of the innermost container's systemd if it is in one

    @property
    def container(self) -> str:
        return self.containers[-1] if self.containers else ""

    @property
    def workload(self) -> Workload | None:
        """None: it is loose (a login session, the root group), and its process tree has to say."""
        if self.pod:
            return Workload(self.pod, "pod")
        if self.unit:
            return Workload("/".join([*self.containers, self.unit])[-MAX_NAME:], "unit")
        if self.containers and _ID.fullmatch(self.container):
            return Workload(self.container, "container")
        if self.containers:
            return Workload("/".join(self.containers)[-MAX_NAME:], "container")
        return None


NOWHERE: Final = Place()


@functools.lru_cache(1024)
def parse_place(raw: bytes) -> Place:
    """Reads /proc/PID/cgroup. Of several hierarchies (version 1, hybrid) a pod or container counts wherever it is
    named: on a hybrid host version 2 may still show the unit of the runtime. Units are those of systemd's own."""
    by_name: dict[str, str] = {}
    for line in os.fsdecode(raw).split("\n"):
        _, _, rest = line.partition(":")
        names, colon, path = rest.partition(":")
        if colon:
            by_name.setdefault(names, path.removesuffix(" (deleted)"))
    paths = tuple(by_name.values())
    found = [_parse(path) for path in paths]
    for place in found:
        if place.pod:
            return Place(paths, place.pod, place.containers, place.unit)
    deepest = max((p for p in found if p.containers), key=lambda p: len(p.containers), default=NOWHERE)
    own = [_parse(by_name[name]) for name in ("", "name=systemd") if by_name.get(name, "/") != "/"]
    if deepest.containers:
        return Place(paths, "", deepest.containers, next((p.unit for p in own if p.containers and p.unit), ""))
    if "" in by_name or "name=systemd" in by_name:
        return Place(paths, unit=next((p.unit for p in own if p.unit), ""))
    return Place(paths, unit=next((p.unit for p in found if p.unit), ""))


def _parse(path: str) -> Place:
    pod, unit = "", ""
    of_init = False  # below what only a systemd makes: a user's manager, a session, itself
    containers: list[str] = []
    parts = path.split("/")
    kubernetes = "kubepods" in path
    for at, part in enumerate(parts):
        if _MONITOR.fullmatch(part):
            unit = ""
            break
        if kubernetes and (match := _POD.fullmatch(part)):
            pod = match.group(1).replace("_", "-")
        if name := _container_name(part, parts[at - 1] if at else "", parts[at + 1 : at + 2]):
            containers.append(name)
            unit, of_init = "", False
        elif part.startswith(("user.slice", "user@")):
            unit, of_init = "", True
        elif part.endswith(".service"):
            unit = "" if any(fnmatchcase(part, carrier) for carrier in _CARRIERS) else _name(part)
        elif part.endswith(".scope"):
            # A user's scopes are what a desktop or a terminal makes for each window, with the shell in it.
            of_init = of_init or part == "init.scope" or part.startswith("session-")
            unit = "" if of_init else _name(part)
    # A container that runs a systemd of its own is like a host: what is loose there belongs to no container's name.
    if containers and not unit and not pod and of_init:
        containers = []
    return Place((), pod, tuple(containers), unit)


def _container_name(part: str, before: str, after: list[str]) -> str:
    if match := _ID.fullmatch(part):
        return match.group(1)
    if after == ["supervisor"]:  # nspawn's own process
        return ""
    if match := _MACHINE.fullmatch(part):
        return _name(_unescape(next(text for text in match.groups() if text)))
    if before in ("lxc", "lxc.payload") and part:
        return _name(part)
    return ""


def _unescape(name: str) -> str:
    r"""systemd writes "-" within a name as \x2d."""
    return re.sub(r"\\x([0-9a-fA-F]{2})", lambda m: chr(int(m.group(1), 16)), name)


def _name(text: str) -> str:
    return printable(text)[:MAX_NAME]
