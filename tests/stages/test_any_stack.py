"""Whatever a stack looks like, it has a stage, and the same one each time."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from excise.frames import Frame
from excise.names import FD_CLASSES, KERNEL_STATES, STAGES, SUBSTAGES, UNATTRIBUTED
from excise.stages import Rules, ThreadContext, Wait, parse_example
from excise.syscalls import NAMES

RULES = Rules.load(system_dir=None)
KNOWN = sorted({frame for rule in RULES for text in rule.examples for frame in parse_example(text).frames},
               key=lambda f: (f.kind, f.file, f.name))

frames = st.one_of(
    st.sampled_from(KNOWN),
    st.builds(Frame, st.sampled_from(["python", "native", "kernel"]), st.text(max_size=30), st.text(max_size=30)),
    st.builds(Frame, st.just("python"),
              st.sampled_from(["app.py", "/x/site-packages/", "<frozen ", "<frozen a.b>", ""]),
              st.sampled_from(["f", "<lambda>", "A.f.<locals>.<listcomp>", ".", ".<locals>."])),
)
waits = st.none() | st.builds(
    Wait, st.sampled_from(KERNEL_STATES), st.integers(-1, 460), st.sampled_from(["", *NAMES]),
    st.sampled_from(FD_CLASSES), st.none() | st.integers(0, 253), st.none() | st.booleans())
threads = st.builds(ThreadContext, st.text(max_size=15), st.booleans(), st.booleans(), st.booleans())


@settings(max_examples=600, deadline=None)
@given(st.lists(frames, max_size=12), waits, threads)
def test_every_stack_has_a_valid_stage(stack: list[Frame], wait: Wait | None, thread: ThreadContext) -> None:
    verdict = RULES.attribute(stack, wait, thread)
    assert verdict.stage in STAGES
    assert verdict.substage is None or (verdict.substage in SUBSTAGES and verdict.stage == "compute")
    assert (verdict.reason is not None) == (verdict.stage == "unattributed")
    assert verdict.reason is None or verdict.reason in UNATTRIBUTED
    assert RULES.attribute(stack, wait, thread) == verdict
    if verdict.stage == "idle":
        assert wait is not None and wait.state not in ("running", "runnable", "gil", "stolen")


@settings(max_examples=200, deadline=None)
@given(st.lists(frames, max_size=12), threads)
def test_a_wait_for_the_interpreter_changes_no_stage(stack: list[Frame], thread: ThreadContext) -> None:
    running = RULES.attribute(stack, None, thread)
    for state in ("running", "runnable", "gil", "stolen"):
        assert RULES.attribute(stack, Wait(state, 202, "futex"), thread) == running
