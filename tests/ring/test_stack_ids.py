"""Stacks by hash and address: looked up as in a dictionary, forgotten with their process, bounded."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from excise.records import FLAG_KERNEL_MODE
from excise.ring import ROW_DTYPE
from excise_agent.chains import Chains
from excise_agent.stack_ids import StackIds

Key = tuple[int, int, int, int, int]  # pid, stack, kstack, ip, flags
u64 = st.integers(0, 2) | st.integers(0, (1 << 64) - 1)
keys_strategy = st.lists(st.tuples(st.integers(1, 3), u64, u64, u64, st.sampled_from([0, FLAG_KERNEL_MODE, 2, 3])),
                         max_size=12)


def rows(keys: list[Key]) -> NDArray[np.void]:
    out = np.zeros(len(keys), ROW_DTYPE)
    for row, key in zip(out, keys, strict=True):
        for name, value in zip(("pid", "stack", "kstack", "ip", "flags"), key, strict=True):
            row[name] = value
    return out


def words_of(ids: StackIds, keys: list[Key]) -> NDArray[np.uint64]:
    made = rows(keys)
    return ids.words(made, made["ip"])


@given(st.lists(st.tuples(keys_strategy, st.none() | st.integers(1, 3)), max_size=8))
@settings(max_examples=200, deadline=None)
def test_ids_are_found_as_in_a_dictionary(steps: list[tuple[list[Key], int | None]]) -> None:
    ids, twin, made = StackIds(), dict[Key, int](), 0
    for keys, ended in steps:
        asked = [(*k[:4], k[4] & FLAG_KERNEL_MODE) for k in keys]
        words = words_of(ids, keys)
        found, new = ids.find(words)
        assert new.tolist() == [i for i, k in enumerate(asked) if k not in twin]
        assert [int(found[i]) for i, k in enumerate(asked) if k in twin] == [twin[k] for k in asked if k in twin]
        if len(new):
            for i in new.tolist():
                made += asked[i] not in twin
                found[i] = twin.setdefault(asked[i], made)
            assert not ids.learn(words[new], found[new])
        if ended is not None:
            ids.forget(ended)
            twin = {k: v for k, v in twin.items() if k[0] != ended}


def test_the_table_is_bounded_and_keeps_what_was_seen_last() -> None:
    ids = StackIds(max_rows=100)
    for start in range(0, 1000, 10):
        words = words_of(ids, [(1, n, 0, 0, 0) for n in (5, *range(start + 100, start + 110))])
        found, new = ids.find(words)
        if len(new):
            found[new] = 7
            ids.learn(words[new], found[new])
        assert len(ids) <= 100
    assert not len(ids.find(words_of(ids, [(1, 5, 0, 0, 0), (1, 1099, 0, 0, 0)]))[1])


def test_what_an_ended_process_had_goes_first() -> None:
    ids = StackIds(max_rows=20)
    for pid, stacks in ((1, range(8)), (2, range(100, 112))):
        words = words_of(ids, [(pid, n, 0, 0, 0) for n in stacks])
        ids.learn(words, np.ones(len(words), np.uint32))
    ids.forget(2)
    words = words_of(ids, [(3, 7, 9, 0, 0)])
    assert ids.learn(words, np.ones(1, np.uint32))
    assert len(ids) == 9 and ids.chains() == {*range(8), 9}


def test_chains_of_ended_processes_go_but_those_in_use_and_the_newest() -> None:
    used: set[int] = {3}
    chains = Chains(lambda: used, max_chains=1000, new=10)
    for n in range(30):
        chains.add(n, 7, (n,))
    chains.add(100, 8, (100,))
    chains.forget(7)
    assert len(chains) == 31
    chains.add(101, 8, (101,))
    assert {n for n in range(200) if n in chains} == {3, *range(22, 30), 100, 101}
    assert chains.get(3) == (3,) and chains.get(4) is None


def test_a_chain_that_comes_again_is_of_who_sent_it_last() -> None:
    chains = Chains(set, max_chains=1000, new=1)
    for pid in (7, 8):
        chains.add(1, pid, (1,))
    chains.forget(7)
    for n in range(10, 20):
        chains.add(n, 9, (n,))
    chains.forget(9)
    chains.add(50, 8, ())
    assert 1 in chains and 10 not in chains


def test_chains_of_the_living_are_bounded_too() -> None:
    chains = Chains(set, max_chains=100, new=10)
    for n in range(1000):
        chains.add(n, 7, ())
    assert len(chains) <= 101 and 999 in chains
