"""The kernel's own word on its functions, beside /proc/kallsyms, which root may read."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from excise_agent.bpf import BpfError
from excise_agent.kallsyms import KernelSymbols
from excise_agent.kernel_names import KernelNames

pytestmark = pytest.mark.bpf

TRIED = 997


def functions() -> list[int]:
    rows = (line.split() for line in Path("/proc/kallsyms").read_text().splitlines())
    return [int(row[0], 16) for row in rows if row[1] in "tTwW" and int(row[0], 16) >= 0xFFFF_8000_0000_0000]


def test_names_are_those_of_kallsyms() -> None:
    known, printed = KernelSymbols(printer=None), KernelNames()
    addrs = random.Random(7).sample(functions(), TRIED)
    assert [addr for addr in addrs if known.resolve(addr + 1).name != printed.name(addr + 1)] == []
    printed.close()


@pytest.mark.parametrize("addr", [0, 0x400000, 0xFFFF_FFFF_0000_0000, 2**64 - 1])
def test_what_is_no_function_has_no_name(addr: int) -> None:
    printed = KernelNames()
    assert printed.name(addr) == ""
    printed.close()


def test_hidden_addresses_are_printed(tmp_path: Path) -> None:
    (tmp_path / "kallsyms").write_text("0000000000000000 T _text\n")
    addr = functions()[1000]
    symbols = KernelSymbols(tmp_path)
    assert symbols.available
    assert symbols.resolve(addr + 1).name == KernelSymbols(printer=None).resolve(addr + 1).name
    assert symbols.resolve(0x400000).name == ""
    symbols.close()


def test_kernel_that_refuses_gives_no_names(tmp_path: Path) -> None:
    def refuse() -> KernelNames:
        raise BpfError(1, "no")

    (tmp_path / "kallsyms").write_text("0000000000000000 T _text\n")
    symbols = KernelSymbols(tmp_path, printer=refuse)
    assert not symbols.available
    assert symbols.resolve(functions()[1000]).name == ""


def test_closing_leaves_no_descriptor() -> None:
    before = len(os.listdir("/proc/self/fd"))
    printed = KernelNames()
    printed.close()
    printed.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert printed.name(functions()[1000]) == ""
