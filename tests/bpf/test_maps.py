"""Maps through bpf(2), against a dictionary."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
import pytest

from excise_agent import bpf

pytestmark = pytest.mark.bpf
HASH = 1
VALUE_DTYPE = np.dtype([("a", "<u8"), ("b", "<u8")])


@pytest.fixture
def made() -> Iterator[bpf.Map]:
    made = bpf.Map.create("test", HASH, 4, VALUE_DTYPE.itemsize, 509, 0)
    yield made
    made.close()


def key(number: int) -> bytes:
    return struct.pack("<I", number)


@pytest.mark.parametrize("count", [0, 1, 127, 509])
def test_a_dump_has_every_entry_once_also_of_a_full_map(made: bpf.Map, count: int) -> None:
    for i in range(count):
        made.update(key(i * 7919), struct.pack("<QQ", i, i * i))
    keys, values = made.dump(VALUE_DTYPE)
    found = {int(k): (int(v["a"]), int(v["b"])) for k, v in zip(keys, values, strict=True)}
    assert len(keys) == count and found == {i * 7919: (i, i * i) for i in range(count)}


def test_a_full_map_refuses_one_more_and_names_itself(made: bpf.Map) -> None:
    for i in range(509):
        made.update(key(i), bytes(16))
    with pytest.raises(bpf.BpfError, match="map test"):
        made.update(key(509), bytes(16))


def test_an_entry_is_found_changed_and_deleted(made: bpf.Map) -> None:
    assert made.lookup(key(5)) is None
    assert made.update(key(5), struct.pack("<QQ", 1, 2))
    assert not made.update(key(5), struct.pack("<QQ", 3, 4), bpf.BPF_NOEXIST)
    assert made.lookup(key(5)) == struct.pack("<QQ", 1, 2)
    assert made.delete(key(5)) and not made.delete(key(5))
    assert made.lookup(key(5)) is None


def test_a_program_that_the_kernel_refuses_says_what_the_verifier_said() -> None:
    with pytest.raises(bpf.BpfError, match="R0 !read_ok"):
        bpf.load_program("bad", bpf.PROG_RAW_TRACEPOINT, bytes.fromhex("9500000000000000"))
