"""Ids that a stream may use from its next definitions on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from excise.frames import Frame, Thread
from excise_agent.interner import NOT_KEPT, Interner

frames = st.builds(Frame, st.sampled_from(["python", "native", "kernel"]), st.sampled_from("ab"),
                   st.sampled_from("xy"), st.integers(0, 2))


@given(st.lists(st.lists(st.lists(frames, max_size=4), max_size=5), max_size=5))
def test_every_id_means_what_the_definitions_before_it_say(ticks: list[list[list[Frame]]]) -> None:
    interner, known_frames, known_stacks = Interner(), [], [()]
    for tick in ticks:
        ids = [(stack, interner.stack(tuple(interner.frame(f) for f in stack))) for stack in tick]
        new = interner.flush()
        if new is not None:
            known_frames += new.frames
            known_stacks += new.stacks
        assert interner.flush() is None
        for stack, number in ids:
            assert [known_frames[i] for i in known_stacks[number]] == stack
    assert len(set(known_frames)) == len(known_frames) and len(set(known_stacks)) == len(known_stacks)


def test_a_thread_that_is_told_again_is_sent_again() -> None:
    interner, thread = Interner(), Thread(1, 1, "main", True)
    for _ in range(2):
        interner.define(thread=thread)
        new = interner.flush()
        assert new is not None and new.threads == [thread]


def test_a_stream_without_end_of_new_code_ends_in_one_frame_and_in_no_stack_and_is_counted() -> None:
    interner = Interner(max_frames=5, max_stacks=3)
    ids = [interner.frame(Frame("python", "a.py", f"f{i}")) for i in range(7)]
    assert ids == [0, 1, 2, 3, 4, 4, 4] and interner.full == 3
    assert [interner.frame(Frame("python", "a.py", f"f{i}")) for i in range(4)] == [0, 1, 2, 3]  # those stay
    assert [interner.stack((i,)) for i in range(5)] == [1, 2, 3, 0, 0] and interner.full == 5
    assert interner.stack((1,)) == 2
    new = interner.flush()
    assert new is not None
    assert new.frames == [*(Frame("python", "a.py", f"f{i}") for i in range(4)), NOT_KEPT]
    assert new.stacks == [(0,), (1,), (2,)]
