"""Each key's line in a file of TOML."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from excise.toml_lines import TomlError, lines_of, parse_toml

TEXT = '''# a comment
top = 1

[a]
b.c = 2          # dotted
"quoted key" = 3
list = [ # [[not.a.table]]
  "x",
  # y = 5
  "]", "y",

  { z = 1 }]
text = """
[not.a.table]
b = 4
"""
[[a.items]]
n = 1
[a.items.deep]
m = 2
[[a.items]]
inline = { one = 1, two = [1, 2] }
'''


@pytest.mark.parametrize(("place", "line"), [
    (("top",), 2), (("a",), 4), (("a", "b", "c"), 5), (("a", "quoted key"), 6), (("a", "list"), 7),
    (("a", "list", 0), 8), (("a", "list", 1), 10), (("a", "list", 2), 10), (("a", "list", 3, "z"), 12),
    (("a", "text"), 13), (("a", "items", 0), 17), (("a", "items", 0, "n"), 18), (("a", "items", 0, "deep", "m"), 20),
    (("a", "items", 1), 21), (("a", "items", 1, "inline", "two", 1), 22),
])
def test_every_key_has_its_line(place: tuple[str | int, ...], line: int) -> None:
    assert lines_of(TEXT)[place] == line


def test_no_place_is_there_that_is_no_key() -> None:
    assert ("not",) not in lines_of(TEXT)
    assert ("a", "y") not in lines_of(TEXT)


def test_line_ends_of_windows_count_the_same() -> None:
    assert lines_of(TEXT.replace("\n", "\r\n")) == lines_of(TEXT)


@pytest.mark.parametrize(("text", "line"), [
    ("a = 1\nb = = 2\n", 2), ("a = 1\na = 2\n", 2), ("x = [1,\n2\n", 2), ("\n\n[a\n", 3), ("a = " + "[" * 5000, 1),
    ("a = " + "9" * 5000, 1),
])
def test_what_is_not_toml_is_refused_with_its_line(text: str, line: int) -> None:
    with pytest.raises(TomlError) as caught:
        parse_toml(text)
    assert caught.value.line == line


def test_a_search_that_would_take_for_ever_ends_with_the_lines_that_were_found() -> None:
    found = lines_of("a = 1\n[t]\nb = [\n" + "[1],\n" * 40_000 + "]\nc = 2\n")
    assert found == {("a",): 1, ("t",): 2}


KEYS = st.sampled_from(["a", "b", '"c d"', "'e'", "f.g", "f.h"])
VALUES = st.sampled_from(["1", '"x"', "[1, 2]", "[\n 1,\n 2\n]", '"""\na = 1\n"""', "{ p = 1, q = [2] }",
                          "'''\n[z]\n'''", "[[1, 2],\n [3]]", "[{ r = 1 },\n { r = 2 }]"])
HEADS = st.sampled_from(["[t]", "[t.u]", "[[v]]", "[[v.w]]", "[v.k]", "# [c]", ""])
LINES = st.lists(st.one_of(HEADS, st.tuples(KEYS, VALUES).map(lambda kv: f"{kv[0]} = {kv[1]}")), max_size=12)


def places(value: Any, place: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return {place} | {p for key, v in inner for p in places(v, (*place, key))}


@given(LINES)
def test_every_value_of_any_file_has_a_line_that_names_it(lines: list[str]) -> None:
    text = "\n".join(lines)
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    found = lines_of(text)
    assert places(table) - {()} == set(found)
    written = text.split("\n")
    for place, line in found.items():
        last = next(part for part in reversed(place) if isinstance(part, str))
        if not isinstance(place[-1], int):
            assert last in written[line - 1] or not any(last in part for part in written)
