"""Structure members from the kernel's type information, real and hostile."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from excise_agent._compile import _OFFSETS, kernel_defines
from excise_agent.btf import Btf, BtfError

INT, STRUCT, UNION, FWD, TYPEDEF, CONST = 1, 4, 5, 7, 8, 10
Type = tuple[int, str, int, Sequence[tuple[str, int, int]]]   # kind, name, size or type, members (name, type, bits)


def blob_of(types: Sequence[Type], kind_flag: bool = False) -> bytes:
    strings, body = bytearray(b"\0"), bytearray()

    def name(text: str) -> int:
        if not text:
            return 0
        at = len(strings)
        strings.extend(text.encode() + b"\0")
        return at

    for kind, text, size, members in types:
        body += struct.pack("<III", name(text), len(members) | kind << 24 | kind_flag << 31, size)
        if kind == INT:
            body += struct.pack("<I", 32)
        for member, type_id, bits in members:
            body += struct.pack("<III", name(member), type_id, bits)
    return struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(body), len(body), len(strings)) + bytes(body + strings)


TYPES: Sequence[Type] = [
    (INT, "int", 4, ()),                                              # 1
    (UNION, "", 8, (("left", 1, 0), ("right", 1, 0))),                # 2
    (STRUCT, "inner", 8, (("a", 1, 0), ("b", 1, 32))),                # 3
    (TYPEDEF, "inner_t", 3, ()),                                      # 4
    (CONST, "", 4, ()),                                               # 5
    (STRUCT, "outer", 32, (("first", 1, 0), ("", 2, 64), ("deep", 5, 128), ("bits", 1, 195))),  # 6
]


@pytest.mark.parametrize(("path", "offset"), [
    ("outer.first", 0), ("outer.left", 8), ("outer.right", 8), ("outer.deep", 16), ("outer.deep.b", 20),
    ("inner.b", 4), ("outer.bits", 24),
])
def test_members_are_found_through_anonymous_ones_typedefs_and_qualifiers(path: str, offset: int) -> None:
    btf = Btf(blob_of(TYPES))
    assert btf.has(path) and btf.offset(path) == offset


def test_a_bit_fields_size_is_no_part_of_its_offset() -> None:
    types: Sequence[Type] = [(INT, "int", 4, ()), (STRUCT, "s", 8, (("flag", 1, 5 << 24 | 40),))]
    assert Btf(blob_of(types, kind_flag=True)).offset("s.flag") == 5


@pytest.mark.parametrize("path", ["outer.nothing", "nothing.at_all", "nothing", "outer.first.a", "outer.deep.c"])
def test_an_error_names_the_member_that_is_not_there(path: str) -> None:
    btf = Btf(blob_of(TYPES))
    assert not btf.has(path)
    with pytest.raises(BtfError, match=f"no {path}$"):
        btf.offset(path)


@cache
def kernel() -> Btf:
    return Btf.of_kernel()


@pytest.mark.bpf
@pytest.mark.parametrize("path", _OFFSETS.values())
def test_this_kernel_has_the_member(path: str) -> None:
    assert 0 <= kernel().offset(path) < 1 << 16


@pytest.mark.bpf
def test_every_offset_that_the_probes_ask_for_becomes_a_define() -> None:
    assert kernel_defines(kernel()).keys() == _OFFSETS.keys() | {"OFF_TASK_STATE", "HAVE_PREV_STATE"}


@pytest.mark.bpf
def test_a_member_that_this_kernel_lacks_is_named() -> None:
    with pytest.raises(BtfError, match=r"no task_struct\.excise_was_here"):
        kernel().offset("task_struct.excise_was_here")


def test_a_kernel_without_type_information_is_told_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(BtfError, match="CONFIG_DEBUG_INFO_BTF"):
        Btf.of_kernel(tmp_path / "vmlinux")


def _asks(blob: bytes) -> None:
    """Whatever is in the blob: an answer or a BtfError, nothing else."""
    try:
        btf = Btf(blob)
    except BtfError:
        return
    for path in ("outer.deep.b", "outer.right", "inner.c", "s", *(f"{name}.x.y" for name in btf._by_name)):
        assert isinstance(btf.has(path), bool)


@given(st.binary(max_size=200))
@settings(max_examples=200)
def test_noise_is_refused(blob: bytes) -> None:
    _asks(blob)
    _asks(struct.pack("<H", 0xEB9F) + blob)


@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=8))
@settings(max_examples=400)
def test_damaged_type_information_is_refused_or_read(damage: list[tuple[int, int]]) -> None:
    blob = bytearray(blob_of(TYPES))
    for at, byte in damage:
        blob[at % len(blob)] = byte
    _asks(bytes(blob))


@given(st.integers(0, 10_000))
@example(23)
@example(24)
def test_type_information_that_is_cut_off_is_refused_or_read(length: int) -> None:
    blob = blob_of(TYPES)
    _asks(blob[: length % len(blob)])


type_ids = st.integers(0, 7)
members = st.lists(st.tuples(st.sampled_from(["", "a", "b", "deep"]), type_ids, st.integers(0, 1 << 16)), max_size=4)


@given(st.lists(st.tuples(st.sampled_from([STRUCT, UNION, FWD, TYPEDEF, CONST]), st.sampled_from(["", "outer", "s"]),
                          type_ids, members), max_size=6), st.booleans())
@settings(max_examples=300)
def test_types_that_refer_to_one_another_in_circles_are_answered(types: list[Type], kind_flag: bool) -> None:
    _asks(blob_of([(k, n, t, m if k in (STRUCT, UNION) else ()) for k, n, t, m in types], kind_flag))


def test_anonymous_members_that_contain_themselves_many_times_over_are_walked_once() -> None:
    bomb: Sequence[Type] = [(STRUCT, "outer", 8, tuple(("", 1, 0) for _ in range(40)))]
    assert not Btf(blob_of(bomb)).has("outer.x")


def test_a_long_chain_of_anonymous_members_is_given_up_on() -> None:
    chain: list[Type] = [(STRUCT, "outer" if not i else "", 8, (("", i + 2, 0),)) for i in range(5_000)]
    assert not Btf(blob_of([*chain, (STRUCT, "", 8, ())])).has("outer.x")
