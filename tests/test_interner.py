"""Ids that a stream may use from its next definitions on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from excise.frames import Frame, Thread
from excise_agent.interner import Interner

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
