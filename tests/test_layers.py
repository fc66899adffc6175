"""A copy of a dictionary that shares what both had, and nothing that either learns later."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from excise_agent.layers import Layers

steps = st.lists(st.tuples(st.integers(0, 7), st.integers(-1, 40)), max_size=200)


@given(steps)
def test_every_copy_has_what_a_plain_copy_would_have(steps: list[tuple[int, int]]) -> None:
    real, model = [Layers[int, str]()], [dict[int, str]()]
    for number, (which, key) in enumerate(steps):
        which %= len(real)
        if key < 0:
            real.append(real[which].copy())
            model.append(dict(model[which]))
        elif key not in model[which]:  # as it is used: what is known is not told again
            real[which][key] = model[which][key] = str(number)
    for layers, plain in zip(real, model, strict=True):
        assert {key: layers.get(key) for key in range(41)} == {key: plain.get(key) for key in range(41)}
        assert len(layers) == len(plain)
        assert len(layers.parts()) <= 2 + math.log2(1 + len(plain))


def test_ten_thousand_copies_hold_each_entry_once() -> None:
    parent = Layers[int, int]()
    parent[1] = 1
    copies = [parent.copy() for _ in range(10_000)]
    held = {id(part): len(part) for layers in (parent, *copies) for part in layers.parts()}
    assert sum(held.values()) == 1


def test_one_that_is_cleared_takes_nothing_from_the_others() -> None:
    parent = Layers[int, int]()
    parent[1] = 1
    child = parent.copy()
    parent.clear()
    assert parent.get(1) is None and len(parent) == 0
    assert child.get(1) == 1
