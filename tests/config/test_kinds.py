"""What a setting's value may be."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from excise_agent.config import amounts, kinds
from excise_agent.config.addresses import Address, LoopbackAddress, Url
from excise_agent.config.kinds import Kind
from excise_agent.config.words import settings

DURATION = amounts.Duration(0.1, 90 * 86400, "10s")
SIZE = amounts.Size(1, 10**15, "200MB")
SHARE = amounts.Share(0.0001, 1)


@pytest.mark.parametrize(("kind", "raw", "value"), [
    (DURATION, "500ms", 0.5), (DURATION, "10s", 10.0), (DURATION, "1.5m", 90.0), (DURATION, "24h", 86400.0),
    (DURATION, "7 d", 604800.0), (SIZE, "200MB", 200_000_000), (SIZE, "64KiB", 65536), (SIZE, "1.5GB", 1_500_000_000),
    (SHARE, "1%", 0.01), (SHARE, "0.01%", 0.0001), (SHARE, "100%", 1.0), (SHARE, "none", None),
    (kinds.Number(0, 10), 7, 7.0), (kinds.OptionalFile(), "", None), (kinds.OptionalFile(), "/x", Path("/x")),
    (Address(), "a.example:1", "a.example:1"), (Address(), "[2001:db8::1]:5", "[2001:db8::1]:5"),
    (LoopbackAddress(), "localhost:0", "localhost:0"), (LoopbackAddress(), "[::1]:1", "[::1]:1"),
    (Url(), "https://x.example:8443/p", "https://x.example:8443/p"),
])
def test_a_good_value_is_read(kind: Kind[Any], raw: object, value: object) -> None:
    assert kind.read(raw) == value


@pytest.mark.parametrize(("kind", "raw"), [
    (DURATION, 10), (DURATION, "10"), (DURATION, "10 parsecs"), (DURATION, "-1s"), (DURATION, "99ms"), (DURATION, ""),
    (DURATION, "1e3s"), (DURATION, "9" * 400 + "s"), (DURATION, "١s"), (SIZE, "200"), (SIZE, "1PB"), (SIZE, "0B"),
    (SHARE, "1"), (SHARE, 0.01), (SHARE, "101%"), (SHARE, "0%"), (kinds.Number(0, 10), math.nan),
    (kinds.Number(0, 10), True), (kinds.Number(0, 10), math.inf), (kinds.Whole(0, 10), 1.0),
    (kinds.Whole(0, 10), False),
    (kinds.Flag(), 1), (kinds.Folder(), "relative"), (kinds.Folder(), "/a\nb"), (kinds.Folder(), "/a\0b"),
    (Address(), "host"), (Address(), "host:0"), (Address(), "host:65536"), (Address(), ":1"),
    (Address(), "::1:5"), (Address(), "a b:1"), (LoopbackAddress(), "0.0.0.0:9477"),
    (LoopbackAddress(), "[::]:9477"), (LoopbackAddress(), ":9477"), (LoopbackAddress(), "host:1"),
    (LoopbackAddress(), "127.0.0.1.example.org:1"), (Url(), "ftp://x"), (Url(), "http://"),
    (Url(), "http://u@x"), (Url(), "http://x?password=y"), (Url(), "http://x:99999"),
    (kinds.Text("", r"\w+"), "é"), (kinds.Text(""), "a\x1b"), (kinds.Many(kinds.Folder(), ""), "/a"),
    (kinds.Many(kinds.Folder(), ""), ["/a"] * 1001), (kinds.Choice("a"), ["a"]), (kinds.Choice("a"), {}),
])
def test_a_bad_value_is_refused(kind: Kind[Any], raw: object) -> None:
    with pytest.raises(ValueError):
        kind.read(raw)


@given(st.text())
def test_no_text_of_the_environment_does_more_than_be_refused(text: str) -> None:
    for _, setting in settings():
        try:
            value = setting.kind.from_text(text)
        except ValueError:
            continue
        assert setting.kind.read(tomllib.loads(f"x = {setting.kind.toml(value)}")["x"]) == value


@given(st.integers(100, 90 * 86_400_000))
def test_every_duration_is_written_as_it_is_read(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    assert DURATION.read(tomllib.loads(f"x = {DURATION.toml(seconds)}")["x"]) == seconds


@given(st.integers(1, 10**15))
def test_every_size_is_written_as_it_is_read(size: int) -> None:
    assert SIZE.read(tomllib.loads(f"x = {SIZE.toml(size)}")["x"]) == size


@given(st.text())
def test_any_text_is_quoted_as_toml(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    assert tomllib.loads(f"x = {kinds.quoted(text)}")["x"] == text
