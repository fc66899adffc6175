from __future__ import annotations

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from excise_agent.maps import MAX_MAPPINGS, parse_maps, read_maps

RAW = rb"""55d0a0000000-55d0a0001000 r--p 00000000 fd:01 17 /usr/bin/python3.11
55d0a0001000-55d0a0003000 r-xp 00001000 fd:01 17                         /usr/bin/python3.11
7f0000000000-7f0000002000 r-xp 00000000 00:2a 23 /models/with  two spaces.so 
7f0000010000-7f0000011000 r-xp 00003000 fd:01 29 /tmp/line\012break.so (deleted)
7f0000020000-7f0000021000 rwxp 00000000 00:00 0 
7f0000030000-7f0000031000 r-xp 00000000 00:01 31 /memfd:jit (deleted)
7f0000040000-7f0000041000 r-xp 00000000 00:00 0 [anon:v8]
7ffff7fc0000-7ffff7fc2000 r-xp 00000000 00:00 0                          [vdso]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
"""


def test_executable_mappings_of_every_kind() -> None:
    found = {m.start: m for m in parse_maps(RAW).mappings}
    assert len(found) == 8
    python = found[0x55D0A0001000]
    assert (python.path, python.offset, python.inode, python.dev) == (
        "/usr/bin/python3.11", 0x1000, 17, os.makedev(0xFD, 1))
    assert found[0x7F0000000000].path == "/models/with  two spaces.so "
    gone = found[0x7F0000010000]
    assert (gone.path, gone.deleted, gone.label) == ("/tmp/line\nbreak.so", True, "/tmp/line?break.so")
    assert [found[a].label for a in (0x7F0000020000, 0x7F0000040000)] == ["[anon]", "[anon]"]
    assert found[0x7F0000030000].is_file
    assert not found[0x7FFFF7FC0000].is_file


def test_find_is_exact_at_both_edges() -> None:
    maps = parse_maps(RAW)
    assert maps.find(0x55D0A0000FFF) is None
    assert maps.find(0x55D0A0001000) is maps.find(0x55D0A0002FFF) is not None
    assert maps.find(0x55D0A0003000) is None
    assert maps.find(0xFFFFFFFFFF600000) is not None
    assert maps.find(0) is maps.find(-1) is maps.find(2**64) is None
    assert parse_maps(b"").find(5) is None


def test_own_code_is_found() -> None:
    maps = read_maps(os.getpid())
    assert maps is not None
    assert any(Path(m.path).exists() for m in maps.mappings if m.is_file)
    assert read_maps(2**22 + 1) is None


@given(st.binary(max_size=200))
def test_any_bytes_are_survived(raw: bytes) -> None:
    parse_maps(raw)
    parse_maps(b"00-ff r-xp " + raw + b"\n" + RAW)


def test_of_more_mappings_than_are_kept_those_with_a_file_stay() -> None:
    code = [b"%x-%x r-xp 00000000 00:00 0" % (i << 12, (i << 12) + 4096) for i in range(1, 20_001)]
    files = [b"7f%06x000-7f%06x000 r-xp 00000000 08:01 %d   /lib/%d.so" % (i, i + 1, i, i) for i in range(1, 1001)]
    maps = parse_maps(b"\n".join(code + files))
    assert len(maps) == MAX_MAPPINGS
    assert sum(m.is_file for m in maps.mappings) == 1000
    assert maps.find(0x1000) is not None and maps.find(20_000 << 12) is None
    many = [line.replace(b"7f", b"7%x" % i) for i in range(16) for line in files]
    assert len(parse_maps(b"\n".join(many))) == MAX_MAPPINGS
