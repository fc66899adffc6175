from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from excise_agent.kallsyms import KernelSymbols, parse_kallsyms

RAW = b"""0000000000000000 A fixed_percpu_data
ffffffff81000000 T _stext
ffffffff81000000 T _text
ffffffff81000040 T do_work
ffffffff81000100 D some_data
ffffffff81000200 t local_work
ffffffffc0000000 t nv_ioctl\t[nvidia]
ffffffffc0000080 t later\t[nvidia]
ffffffff81000300 w weak
"""


def symbols(tmp_path: Path, raw: bytes) -> KernelSymbols:
    (tmp_path / "kallsyms").write_bytes(raw)
    return KernelSymbols(tmp_path, printer=None)


@pytest.mark.parametrize(("addr", "name"), [
    (0xFFFFFFFF81000000, "_stext"),
    (0xFFFFFFFF81000041, "do_work"),
    (0xFFFFFFFF81000110, "do_work"),
    (0xFFFFFFFF81000210, "local_work"),
    (0xFFFFFFFF81000301, "weak"),
    (0xFFFFFFFFC0000010, "nv_ioctl [nvidia]"),
    (0xFFFFFFFFC0000080, "later [nvidia]"),
    (0xFFFFFFFF80FFFFFF, ""),
    (0xFFFFFFFFC8000000, ""),
    (0x400000, ""),
    (2**64, ""),
])
def test_names(tmp_path: Path, addr: int, name: str) -> None:
    frame = symbols(tmp_path, RAW).resolve(addr)
    assert (frame.kind, frame.file, frame.name) == ("kernel", "", name)


def test_hidden_addresses_give_no_names(tmp_path: Path) -> None:
    hidden = symbols(tmp_path, b"".join(b"0" * 16 + line[16:] + b"\n" for line in RAW.splitlines()))
    assert hidden.resolve(0xFFFFFFFF81000041).name == ""
    assert not hidden.available


def test_absent_file_gives_no_names(tmp_path: Path) -> None:
    assert KernelSymbols(tmp_path / "none", printer=None).resolve(0xFFFFFFFF81000041).name == ""


def test_file_is_read_when_first_needed(tmp_path: Path) -> None:
    kernel = KernelSymbols(tmp_path, printer=None)
    (tmp_path / "kallsyms").write_bytes(RAW)
    assert kernel.available


@given(st.binary(max_size=300))
def test_any_bytes_are_survived(raw: bytes) -> None:
    addrs, names, starts = parse_kallsyms(raw + b"\n" + RAW)
    assert len(addrs) == len(starts)
    assert names.count(b"\n") >= len(addrs)
