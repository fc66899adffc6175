"""Chains that the target itself announced, against chains read from outside."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from excise_agent.cpython import CodeInfo, line_of, read_code, stack_hash, thread_states, walk
from excise_agent.cpython.walk import FrameRecord

from .conftest import INTERPRETERS, REQUIRED, Attached, Start, Target, until

Attach = Callable[[Target], Attached]


def test_required_interpreters_are_there() -> None:
    found = {".".join(version.split(".")[:2]) for version in INTERPRETERS}
    assert found >= set(REQUIRED), f"found only {sorted(INTERPRETERS.items())}"


def name_frames(at: Attached, frames: list[FrameRecord]) -> list[list[str | int]]:
    """As the target's own sys._getframe lists them."""
    out: list[list[str | int]] = []
    for addr, key, lasti in frames:
        info = read_code(at.mem, at.interp.layout, addr, at.interp.code_type)
        assert info is not None
        assert info.key == key != 0
        if not info.shim:
            line = line_of(info.linetable, info.firstlineno, lasti, at.interp.layout.version)
            assert line is not None
            out.append([info.qualname, line])
    return out


@pytest.mark.parametrize("mode", ["sleep", "read", "deep", "coroutine", "thread", "threads", "fork"])
def test_blocked_chain_has_exact_names_and_lines(
        python: str, mode: str, start: Start, attach: Attach) -> None:
    target = start(python, mode)
    at = attach(target)
    tstate = thread_states(at.mem, at.interp)[target.tid]
    assert name_frames(at, walk(at.mem, at.interp, tstate)) == target.expect
    if mode == "deep":
        assert len(target.expect) > 300


def test_busy_chain_has_exact_names_and_lines(python: str, start: Start, attach: Attach) -> None:
    target = start(python, "spin", blocks=False)
    at = attach(target)
    tstate = thread_states(at.mem, at.interp)[target.tid]

    def leaf() -> str:
        frames = walk(at.mem, at.interp, tstate, max_frames=1)
        info = read_code(at.mem, at.interp.layout, frames[0][0]) if frames else None
        return info.qualname if info else ""

    until(lambda: leaf() == "leaf_spin", "the leaf spins")
    for _ in range(50):
        assert name_frames(at, walk(at.mem, at.interp, tstate)) == target.expect


def test_deepest_frames_are_cut_at_the_bound(python: str, start: Start, attach: Attach) -> None:
    target = start(python, "deep")
    at = attach(target)
    frames = walk(at.mem, at.interp, thread_states(at.mem, at.interp)[target.tid], max_frames=17)
    assert name_frames(at, frames) == target.expect[:17]


def test_freed_code_is_told_by_its_key(python: str, start: Start, attach: Attach) -> None:
    """Whatever is read while functions come and go: a matching key means that the name and the line are
    right.
    """
    target = start(python, "exec-churn", blocks=False)
    at = attach(target)
    tstate = thread_states(at.mem, at.interp)[target.tid]
    named: set[str] = set()
    gone = 0

    def collected() -> bool:
        nonlocal gone
        for addr, key, _ in walk(at.mem, at.interp, tstate):
            info = read_code(at.mem, at.interp.layout, addr, at.interp.code_type)
            if info is None or info.key != key:
                gone += 1
            elif info.qualname.startswith("churn_"):
                check_churn(info)
                named.add(info.qualname)
        return len(named) >= 5

    until(collected, "5 different churn functions are seen")


def check_churn(info: CodeInfo) -> None:
    number = re.fullmatch(r"churn_(\d+)(?:\.<locals>\.<listcomp>)?", info.qualname)
    assert number, info
    assert info.firstlineno == int(number[1]) % 1000 + 1
    assert info.filename == f"<churn {number[1]}>"


def test_second_thread_and_main_thread_are_both_listed(python: str, start: Start, attach: Attach) -> None:
    target = start(python, "thread")
    at = attach(target)
    states = thread_states(at.mem, at.interp)
    assert set(states) == {target.pid, target.tid}

    def main() -> list[str]:
        infos = [read_code(at.mem, at.interp.layout, addr)
                 for addr, _, _ in walk(at.mem, at.interp, states[target.pid])]
        return [info.qualname for info in infos if info]

    until(lambda: any(name.endswith("join") for name in main()), "the main thread joins the other")
    assert main()[-1] == "<module>"


def test_stack_hash_is_the_same_for_the_same_stack_and_never_zero(
        python: str, start: Start, attach: Attach) -> None:
    target = start(python, "sleep")
    at = attach(target)
    tstate = thread_states(at.mem, at.interp)[target.tid]
    frames = walk(at.mem, at.interp, tstate)
    assert stack_hash(frames, 7) == stack_hash(walk(at.mem, at.interp, tstate), 7) != stack_hash(frames[1:], 7)
    assert stack_hash(frames, 7, 4) == stack_hash(frames, 7) + 4 != stack_hash(frames, 8, 4)


def test_stack_hash_of_known_frames() -> None:
    """Constants that the C side can be tested with."""
    assert stack_hash([], 0xCBF29CE484222325) == 0xCBF29CE484222325
    frames = [(0x7F0000001000, 0x12345678, 6), (0x7F0000002000, 0x9ABCDEF0, 0xFFFFFFFF)]
    assert stack_hash(frames, 0xCBF29CE484222325) == 0xAA2D8C8F8E3D031C
