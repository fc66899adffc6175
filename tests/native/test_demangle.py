from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from excise_agent.demangle import MAX_NAME, demangle, shorten


@pytest.mark.parametrize(("raw", "name"), [
    (b"main", "main"),
    (b"_ZN4shop8checkoutEl", "shop::checkout(long)"),
    (b"_ZN2at6native3addE", "at::native::add"),
    (b"_ZN4core3fmt9Formatter3pad17h1234567890abcdefE", "core::fmt::Formatter::pad"),
    (b"_ZN53_$LT$alloc..vec..Vec$LT$T$GT$$u20$as$u20$Iterator$GT$4next17h1234567890abcdefE",
     "<alloc::vec::Vec<T> as Iterator>::next"),
    (b"_RNvC6_123foo3bar", "_RNvC6_123foo3bar"),
    (b"memcpy@@GLIBC_2.14", "memcpy"),
    (b"_ZN4shop8checkoutEl.isra.0", "shop::checkout(long)"),
    (b"_Znot_a_name", "_Znot_a_name"),
    (b"", ""),
    (b"evil\x1b[2Jname\xff", "evil?[2Jname\N{REPLACEMENT CHARACTER}"),
])
def test_names(raw: bytes, name: str) -> None:
    assert demangle(raw) == name


def test_name_that_doubles_with_every_reference_is_not_expanded() -> None:
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    bomb = "_ZN4shop4bombE" + "St4pairIiiE" + "".join(f"S_IS{digits[i]}_S{digits[i]}_E" for i in range(30))
    began = time.monotonic()
    assert demangle(bomb.encode()) == "shop::bomb"
    assert time.monotonic() - began < 0.5


def test_long_template_arguments_are_folded_before_anything_is_cut() -> None:
    name = "at::native::kernel<" + "float, " * 60 + "int>::run(at::Tensor const&) const"
    assert shorten(name) == "at::native::kernel<...>::run(at::Tensor const&) const"


def test_operators_are_not_taken_for_brackets() -> None:
    name = "ns::operator<< <" + "char, " * 60 + "int>(ns::Stream&, int)"
    assert shorten(name) == "ns::operator<< <...>(ns::Stream&, int)"
    name = "ns::Pointer<" + "char, " * 60 + ">::operator->() const"
    assert shorten(name) == "ns::Pointer<...>::operator->() const"


def test_arguments_are_folded_next_and_the_rest_is_cut() -> None:
    assert shorten("f(" + "int, " * 80 + "int) const") == "f(...) const"
    assert shorten("x" * 900) == "x" * (MAX_NAME - 1) + "…"


@settings(max_examples=200, deadline=None)
@given(st.one_of(
    st.binary(max_size=300),
    st.text("_ZNSTIE0123456789abcKVRO<>()->_.$@", max_size=300).map(str.encode),
))
def test_any_bytes_give_a_short_printable_name(raw: bytes) -> None:
    for prefix in (b"", b"_Z", b"_ZN"):
        name = demangle(prefix + raw)
        assert len(name) <= MAX_NAME
        assert name.isprintable()
