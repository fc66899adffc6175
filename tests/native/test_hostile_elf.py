"""Whatever bytes a target's file has: no exception, no hang, no memory beyond the cap."""

from __future__ import annotations

import random
import struct
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from excise_agent import _elf, symbols
from excise_agent._elf import BytesSource, read_elf
from excise_agent.safe_open import Identity, Opened, open_link
from excise_agent.symbols import SymbolCache, SymbolFile, load_symbols

LIMIT_BYTES = 64 << 20
LIMIT_S = 2.0


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    import subprocess

    folder = tmp_path_factory.mktemp("elf")
    source, path = folder / "a.c", folder / "a.so"
    source.write_text("\n".join(f"int function_{i}(int n) {{ return n * {i}; }}" for i in range(101)))
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", path, source], check=True)
    return path.read_bytes()


def exercise(data: bytes) -> None:
    file = load_symbols(BytesSource(data))
    if file is not None:
        for offset in (0, 1, 0x1000, 0x1100, 0x1234, len(data), 2**32, 2**63):
            assert len(file.name_at(offset)) <= 200
        file.close()


def test_intact_image_is_read(image: bytes) -> None:
    file = load_symbols(BytesSource(image))
    assert file is not None
    found = {file.name_at(o) for o in range(0, len(image), 4)}
    assert {f"function_{i}" for i in range(101)} <= found


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_mutated_images_are_survived(image: bytes, data: st.DataObject) -> None:
    broken = bytearray(image[: data.draw(st.integers(0, len(image)))])
    shoff = struct.unpack_from("<Q", image, 40)[0]
    hot = st.one_of(st.integers(0, 1023), st.integers(shoff, len(image) - 1), st.integers(0, len(image) - 1))
    for _ in range(data.draw(st.integers(0, 12))):
        at = data.draw(hot)
        extreme = st.sampled_from([b"\xff" * 8, b"\0" * 8])
        patch = data.draw(st.one_of(st.binary(min_size=1, max_size=8), extreme))
        broken[at : at + len(patch)] = patch
    exercise(bytes(broken))


def test_random_header_fields_stay_within_time_and_memory(image: bytes) -> None:
    rng = random.Random(7)
    shoff = struct.unpack_from("<Q", image, 40)[0]
    for _ in range(97):
        broken = bytearray(image)
        for _ in range(rng.randrange(1, 6)):
            low, high = rng.choice([(16, 64), (64, 64 + 56 * 8), (shoff, len(image) - 8)])
            value = rng.choice([0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1, rng.getrandbits(64)])
            struct.pack_into("<Q", broken, rng.randrange(low, high), value)
        began = time.monotonic()
        tracemalloc.start()
        exercise(bytes(broken))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < LIMIT_BYTES
        assert time.monotonic() - began < LIMIT_S


def sparse_elf(path: Path, symbol_count: int) -> None:
    """A file of holes that claims a symbol table of any size at no cost to whoever made it."""
    table_at = 1 << 20
    table_bytes = symbol_count * _elf.SYM_DTYPE.itemsize
    strings_at = table_at + table_bytes
    ident = b"\x7fELF\x02\x01\x01" + b"\0" * 9
    head = ident + struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 4096, 0, 64, 56, 1, 64, 4, 0)
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, 1 << 40, 1 << 40, 4096)

    def section(kind: int, flags: int, offset: int, size: int, link: int = 0, entry: int = 0) -> bytes:
        return struct.pack("<IIQQQQIIQQ", 0, kind, flags, 0, offset, size, link, 0, 1, entry)

    sections = section(0, 0, 0, 0) + section(1, 6, 0, 1 << 40) + section(2, 0, table_at, table_bytes, 3, 24)
    sections += section(3, 0, strings_at, 1 << 30)
    with path.open("wb") as file:
        file.write(head + load)
        file.seek(4096)
        file.write(sections)
        file.truncate(strings_at + (1 << 30))


def test_symbol_table_of_gigabytes_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "huge"
    sparse_elf(path, 150_000_000)
    source = open_link(path)
    assert isinstance(source, Opened)
    read = [0]
    original = Opened.read

    def counted(self: Opened, offset: int, size: int) -> bytes:
        raw = original(self, offset, size)
        read[0] += len(raw)
        return raw

    monkeypatch.setattr(Opened, "read", counted)
    began = time.monotonic()
    tracemalloc.start()
    file = load_symbols(source)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert file is not None
    assert len(file) == 0
    assert read[0] <= symbols.MAX_SYMBOLS_READ * 24 + (1 << 20)
    assert peak < LIMIT_BYTES
    assert time.monotonic() - began < 5
    file.close()


def test_kept_symbols_are_capped(image: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(symbols, "MAX_SYMBOLS_KEPT", 13)
    file = load_symbols(BytesSource(image))
    assert file is not None
    assert len(file) <= 13


def symbol_table(addresses: list[int] | np.ndarray, infos: list[int] | int, sizes: list[int] | int) -> np.ndarray:
    """Symbols in the executable section of a `sparse_elf`; each name offset is its place, from 1."""
    table = np.zeros(len(addresses), _elf.SYM_DTYPE)
    table["name"], table["shndx"] = np.arange(1, len(table) + 1), 1
    table["value"], table["info"], table["size"] = addresses, infos, sizes
    return table


def loaded(path: Path, table: np.ndarray) -> SymbolFile:
    sparse_elf(path, len(table))
    with path.open("r+b") as file:
        file.seek(1 << 20)
        file.write(table.tobytes())
    source = open_link(path)
    assert isinstance(source, Opened)
    found = load_symbols(source)
    assert found is not None
    return found


def test_a_library_with_as_many_symbols_as_are_kept_is_read_within_the_limit(tmp_path: Path) -> None:
    order = np.random.default_rng(7).permutation(symbols.MAX_SYMBOLS_KEPT)
    table = symbol_table(order * 16, 0x12, 16)
    tracemalloc.start()
    file = loaded(tmp_path / "full", table)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(file) == symbols.MAX_SYMBOLS_KEPT
    assert held < 13 * symbols.MAX_SYMBOLS_KEPT and peak < LIMIT_BYTES + len(table.tobytes())
    assert int(file._names[int(order[4711])]) == 4712
    file.close()


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.tuples(st.integers(0, 5), st.sampled_from([0x00, 0x02, 0x10, 0x12, 0x0A]),
                               st.sampled_from([0, 16])), min_size=1, max_size=40))
def test_of_several_names_for_an_address_the_best_is_kept(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, int, int]]
) -> None:
    file = loaded(tmp_path_factory.mktemp("elf") / "few", symbol_table(*map(list, zip(*rows, strict=True))))
    best: dict[int, tuple[bool, bool, bool, int]] = {}
    for place, (address, info, size) in enumerate(rows, 1):
        best[address] = max(best.get(address, (False, False, False, 0)),
                            (size > 0, info & 15 != 0, info >> 4 == 1, place))
    assert dict(zip(file._addrs.tolist(), file._names.tolist(), strict=True)) == {a: b[3] for a, b in best.items()}
    file.close()


def test_build_id_note_of_endless_size_is_survived() -> None:
    note = struct.pack("<III", 0xFFFFFFFF, 0xFFFFFFFF, 3) + b"GNU\0"
    head = b"\x7fELF\x02\x01\x01" + b"\0" * 9
    head += struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    head += struct.pack("<IIQQQQQQ", 4, 4, 120, 0, 0, 2**63, 2**63, 4)
    elf = read_elf(BytesSource(head + note))
    assert elf is not None
    assert elf.build_id == ""


def _file(symbol_count: int) -> SymbolFile:
    elf = read_elf(BytesSource(b"\x7fELF\x02\x01\x01" + b"\0" * 57))
    assert elf is not None
    array = np.zeros(symbol_count, np.uint32)
    return SymbolFile(BytesSource(b""), elf, (0, 0), 0, (array, array.copy(), array.copy()))


def test_cache_stays_under_its_cap_and_drops_the_oldest() -> None:
    cache = SymbolCache(max_bytes=100_000, max_files=5)
    keys = [Identity(1, i, 1, 1) for i in range(11)]
    for key in keys:
        cache.put(key, _file(3000))
        cache.get(keys[0])
        assert cache.nbytes <= 100_000
    assert cache.known(keys[0])
    assert not cache.known(keys[1])
    cache = SymbolCache(max_files=5)
    for key in keys:
        cache.put(key, None)
    assert len(cache) == 5
    assert cache.known(keys[10])


def test_same_build_id_in_another_file_shares_nothing() -> None:
    cache = SymbolCache()
    cache.put(Identity(1, 2, 3, 4), _file(7))
    assert not cache.known(Identity(1, 9, 3, 4))
