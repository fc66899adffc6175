"""A target dies just when the agent is about to look at it: at every one of the looks, one after another."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from daemon.test_watching import Host, found
from excise_agent.config.schema import DiscoveryConfig, WorkloadRule
from excise_agent.discovery import Discovery
from faults.scale import FULL

IDLE = """print(flush=True)
import threading, time
threading.Thread(target=time.sleep, args=(99,)).start()
time.sleep(99)
"""
EVERY = 1 if FULL else 24  # of the looks of a start, which takes long


class Victim:
    """Dies at the `at`-th look at it. `looks`: how many there were."""

    def __init__(self, at: int, patch: pytest.MonkeyPatch) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", IDLE], stdout=subprocess.PIPE, process_group=0)
        assert self.process.stdout is not None
        self.process.stdout.readline()
        self.pid, self.looks, self._at = self.process.pid, 0, at
        self._own = f"/proc/{self.pid}"
        for module, name in ((os, "open"), (os, "listdir"), (os, "readlink"), (os, "stat"), (os, "scandir"),
                             (os, "pidfd_open"), (io, "open"), (os, "pread"), (os, "preadv")):
            patch.setattr(module, name, self._watched(getattr(module, name)))

    def end(self) -> None:
        self.process.kill()
        self.process.wait()

    def _watched(self, real: Callable[..., object]) -> Callable[..., object]:
        def call(path: object = ".", *args: object, **more: object) -> object:
            if self._is_own(path):
                if self.looks == self._at:
                    self.end()
                self.looks += 1
            return real(path, *args, **more)

        return call

    def _is_own(self, path: object) -> bool:
        if isinstance(path, bytes):
            path = os.fsdecode(path)
        return path == self.pid or (not isinstance(path, int) and f"{path}/".startswith(f"{self._own}/"))


@contextlib.contextmanager
def victim(at: int) -> Iterator[Victim]:
    with pytest.MonkeyPatch.context() as patch:
        made = Victim(at, patch)
        try:
            yield made
        finally:
            made.end()
            assert made.process.stdout is not None
            made.process.stdout.close()


def test_discovery_survives_it_at_every_look() -> None:
    rules = (WorkloadRule(name="victim", command="python*"), WorkloadRule(name="all", user="*"))
    at = 0
    while True:
        with victim(at) as target:
            discovery = Discovery(DiscoveryConfig(workloads=rules))
            try:
                for _ in range(3):
                    discovery.look()
                assert target.looks > 0
                target.end()
                discovery.look()
                discovery.look()
                assert target.pid not in {f.pid for f in discovery.watched}
            finally:
                discovery.close()
            if target.looks <= at:
                break
            at += 1
    assert at > 5


@pytest.mark.bpf
def test_a_watch_of_others_survives_it_at_every_look() -> None:
    host = Host()
    try:
        steady = host.spawn()
        host.watching.take([found(steady, "steady")])
        at = 0
        while True:
            with victim(at) as target:
                who = found(target.process, f"victim{at}")  # type: ignore[arg-type]
                host.watching.take([who])
                target.end()
                if target.looks <= at:
                    break
            at += 1
        windows = host.windows("steady")
        host.until(lambda: len(host.watching.observed) == 1 and host.windows("steady") > windows)
        assert host.watching.starts == 1 and host.watching.pids() == {steady.pid}
        assert at > 10
    finally:
        host.watching.stop()
        for process in host.processes:
            process.kill()
            process.wait()


@pytest.mark.bpf
def test_a_watch_that_begins_survives_it() -> None:
    at = 0
    while True:
        host = Host()
        with victim(at) as target:
            try:
                host.watching.take([found(target.process, "victim")])  # type: ignore[arg-type]
                target.end()
                host.until(lambda host=host: host.watching.watch is None)
            finally:
                host.watching.stop()
            assert host.watching.observed == ()
            if target.looks <= at:
                break
        at += EVERY
    assert at > EVERY
