"""Forks are named by what their forebears knew, share it, and leave nothing behind."""

from __future__ import annotations

import os
import sys

import pytest

from excise.frames import Frame
from excise_agent.cpython import thread_states, walk
from excise_agent.cpython.walk import FrameRecord
from excise_agent.interner import Interner
from excise_agent.python_names import PythonNames

from .conftest import Start, Target
from .test_walk import Attach

NOBODY = 1 << 22  # the kernel's largest pid is below: a process that has ended already


@pytest.fixture
def walked(start: Start, attach: Attach) -> tuple[Target, PythonNames, list[FrameRecord]]:
    """A blocked target, names that know of its interpreter, and its stack."""
    target = start(sys.executable, "sleep")
    at = attach(target)
    names = PythonNames()
    names.add(target.pid, at.interp)
    return target, names, walk(at.mem, at.interp, thread_states(at.mem, at.interp)[target.tid])


def told(names: PythonNames, pid: int, frames: list[FrameRecord]) -> list[list[str | int]]:
    seen: list[Frame] = []

    def intern(frame: Frame) -> int:
        seen.append(frame)
        return len(seen) - 1

    return [[seen[i].name, seen[i].line] for i in names.chain(pid, frames, intern)]


def test_a_grandchild_is_named_when_it_and_its_parent_have_ended(
    walked: tuple[Target, PythonNames, list[FrameRecord]]
) -> None:
    target, names, frames = walked
    names.fork(target.pid, NOBODY + 1)
    names.fork(NOBODY + 1, NOBODY + 2)
    names.forget(NOBODY + 1)
    assert told(names, NOBODY + 2, frames) == target.expect
    assert names.gone == 0


def test_ten_thousand_forks_hold_what_their_parent_knew_once_and_leave_nothing(
    walked: tuple[Target, PythonNames, list[FrameRecord]]
) -> None:
    target, names, frames = walked
    interner = Interner()
    stack = names.chain(target.pid, frames, interner.frame)
    held, descriptors = names.nbytes, len(os.listdir("/proc/self/fd"))
    for i in range(10_000):
        names.fork(target.pid, NOBODY + i)
        assert names.chain(NOBODY + i, frames, interner.frame) == stack
    assert names.nbytes == held
    for i in range(10_000):
        names.forget(NOBODY + i)
    assert len(names) == 1 and len(os.listdir("/proc/self/fd")) == descriptors
    assert told(names, target.pid, frames[:0]) == []
    assert names.chain(target.pid, frames, interner.frame) == stack


def test_forks_do_not_learn_from_one_another(walked: tuple[Target, PythonNames, list[FrameRecord]]) -> None:
    target, names, frames = walked
    names.fork(target.pid, NOBODY)
    names.fork(target.pid, NOBODY + 1)
    interner = Interner()
    known = names.chain(NOBODY, frames, interner.frame)
    target.process.kill()
    target.process.wait()
    lost = told(names, NOBODY + 1, frames)
    assert lost == [["", 0]] * len(frames) and names.gone > 0
    assert names.chain(NOBODY, frames, interner.frame) == known and len(set(known)) > 1


def test_names_without_end_are_forgotten_and_read_again(
    walked: tuple[Target, PythonNames, list[FrameRecord]], attach: Attach
) -> None:
    target, _, frames = walked
    names = PythonNames(max_bytes=40_000)
    names.add(target.pid, attach(target).interp)
    code, key, _ = frames[0]
    for lasti in range(0, 20_000, 2):
        names.chain(target.pid, [(code, key, lasti)], Interner().frame)
        assert names.nbytes < 2 * 40_000 + 10_000
    assert told(names, target.pid, frames) == target.expect
    assert names.gone == 0
