"""What is found in real processes, and what is said where nothing can be walked."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from excise.records import PROC_DTYPE
from excise_agent.cpython import (
    PROC_WALK_DTYPE,
    WALK_FIELDS,
    Interpreter,
    Memory,
    NotPython,
    Unsupported,
    debug_offsets,
    detect,
    thread_data,
    thread_states,
)
from excise_agent.cpython import detect as detect_function
from excise_agent.cpython.modules import Module, parse_maps, read_maps
from excise_agent.host import read_parent

from .conftest import Attached, Start, Target, until

detecting = sys.modules[detect_function.__module__]
Attach = Callable[[Target], Attached]


def slot(at: Attached, fsbase: int) -> int | None:
    """As the BPF program reads the thread state."""
    record = at.interp.walk_record()
    if record["tls_tstate"]:
        return at.mem.read_u64(fsbase + int(record["tls_tstate"]))
    return at.mem.read_u64(fsbase + int(record["tss_first_block"]) + 16 * int(record["tss_key"]) + 8)


@pytest.mark.parametrize("mode", ["sleep", "thread", "threads", "fork"])
def test_version_and_thread_state_are_found(python: str, mode: str, start: Start, attach: Attach) -> None:
    target = start(python, mode)
    at = attach(target)
    assert at.interp.version == target.version
    states = thread_states(at.mem, at.interp)
    # a forked child clears the states of its parent's other threads
    assert set(states) == {int(t) for t in os.listdir(f"/proc/{target.pid}/task")}
    for tstate in states.values():
        fsbase = at.mem.read_u64(tstate + at.interp.layout.ts_thread_id)
        assert fsbase
        assert slot(at, fsbase) == tstate


def test_record_fits_what_bpf_reads(python: str, start: Start, attach: Attach) -> None:
    at = attach(start(python, "sleep"))
    record = at.interp.walk_record()
    assert PROC_WALK_DTYPE == PROC_DTYPE == record.dtype
    assert record.dtype.names == tuple(name for name, *_ in WALK_FIELDS)
    unset = {n for n in record.dtype.names if not record[n].any()}
    assert unset <= {"pad", "flags", "tss_key", "tss_first_block", "tls_tstate", "f_code", "cframe_frame"}
    assert record["f_size"] <= 128
    assert record["co_span"] <= 120
    for field in ("f_code", "f_back"):
        assert record[field] + 8 <= record["f_size"]
    for field in ("co_linetable", "co_qualname", "co_filename"):
        assert record["co_base"] <= record[field] <= record["co_base"] + record["co_span"] - 8
    assert int(record["version"]) == at.interp.layout.version


def test_wait_for_the_gil_is_a_futex_in_the_runtime_structure(
        python: str, start: Start, attach: Attach) -> None:
    target = start(python, "gil", blocks=False)
    interp = attach(target).interp

    def waits() -> bool:
        for tid in os.listdir(f"/proc/{target.pid}/task"):
            number, *args = Path(f"/proc/{target.pid}/task/{tid}/syscall").read_text().split()
            if number == "202" and 0 <= int(args[0], 16) - interp.runtime_addr < interp.runtime_size:
                return True
        return False

    until(waits, "a thread waits for the GIL")


def test_interpreter_with_another_name_and_no_file_is_found(start: Start, tmp_path: Path) -> None:
    copy = tmp_path / "serve-worker"
    shutil.copy(Path("/usr/bin/python3").resolve(), copy)
    target = start(str(copy), "sleep")
    copy.unlink()
    found = detect(target.pid)
    assert isinstance(found, Interpreter)
    assert found.path == str(copy)


def test_program_without_python() -> None:
    with subprocess.Popen(["sleep", "1000"]) as process:
        try:
            found = detect(process.pid)
        finally:
            process.kill()
    assert isinstance(found, NotPython)


def test_ended_process() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    assert isinstance(detect(process.pid), NotPython)


def test_kernel_thread() -> None:
    kernel = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if read_parent(pid) == 2]
    for pid in kernel[:1]:
        found = detect(pid)
        assert isinstance(found, NotPython)
        assert "kernel thread" in found.reason


def unsupported(pid: int, words: str) -> None:
    found = detect(pid)
    assert isinstance(found, Unsupported)
    assert words in found.reason
    assert found.reason.endswith(".")


def rename(monkeypatch: pytest.MonkeyPatch, pattern: str, name: str) -> None:
    def renamed(text: bytes) -> list[Module]:
        return [replace(m, path=f"/{name}") if re.match(pattern, m.name) else m for m in parse_maps(text)]

    monkeypatch.setattr(detecting, "parse_maps", renamed)


def test_musl_is_named(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    target = start("/usr/bin/python3", "sleep")
    rename(monkeypatch, r"libc\.so", "ld-musl-x86_64.so.1")
    unsupported(target.pid, "musl")


def test_static_libc_is_named(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    target = start("/usr/bin/python3", "sleep")
    rename(monkeypatch, r"libc\.so", "libother.so")
    unsupported(target.pid, "no glibc")


def test_pypy_is_named(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    target = start("/usr/bin/python3", "sleep")
    rename(monkeypatch, r"python", "pypy3.10")
    unsupported(target.pid, "PyPy")


def test_old_python_is_named(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    target = start("/usr/bin/python3", "sleep")
    monkeypatch.setattr(detecting, "_version", lambda mem, elf: (0x0309, "3.9.18"))
    unsupported(target.pid, "CPython 3.9.18: only 3.10 to 3.15")


def test_free_threaded_build_is_named(python: str, start: Start, attach: Attach,
                                      monkeypatch: pytest.MonkeyPatch) -> None:
    target = start(python, "sleep")
    if attach(target).interp.layout.version >= 0x030D:
        monkeypatch.setattr(debug_offsets, "free_threaded", lambda raw: True)
        unsupported(target.pid, "free-threaded")


def test_first_block_is_found_without_the_descriptor_of_libc(
        python: str, start: Start, attach: Attach, monkeypatch: pytest.MonkeyPatch) -> None:
    """glibc before 2.34 exports none."""
    target = start(python, "thread")
    expect = attach(target).interp
    monkeypatch.setattr(thread_data, "_descriptor", lambda mem, libc, name: None)
    assert detect(target.pid) == expect


def test_key_is_found_where_the_runtime_has_none(python: str, start: Start, attach: Attach,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    target = start(python, "thread")
    expect = attach(target).interp
    monkeypatch.setattr(thread_data, "_runtime_key", lambda mem, addr: None)
    assert detect(target.pid) == expect


def test_debug_offsets_of_another_version_are_refused(python: str, start: Start, attach: Attach) -> None:
    at = attach(start(python, "sleep"))
    raw = at.mem.read(at.interp.runtime_addr, debug_offsets.SIZE_BYTES) or b""
    for version in (0x030D, 0x030E, 0x030F):
        parsed = debug_offsets.parse(raw, version)
        assert isinstance(parsed, str) == (version != at.interp.layout.version)


def test_memory_answers_none_for_what_is_not_there() -> None:
    process = subprocess.Popen(["sleep", "1000"])
    mem = Memory(process.pid)
    stack = re.search(r"^(\w+)-(\w+) .*\[stack\]$", read_maps(process.pid).decode(), re.M)
    assert stack
    start, end = (int(x, 16) for x in stack.groups())
    assert len(mem.read(end - 64, 64) or b"") == 64
    assert mem.read(end - 64, 65) is None
    assert mem.read_u64(end - 4) is None
    for addr in (-1, 0, 8, 1 << 47, 1 << 63, 1 << 70):
        assert mem.read(addr, 8) is None
    assert mem.read(start, 0) is None
    assert mem.read(start, 1 << 40) is None
    process.kill()
    process.wait()
    assert mem.read(end - 64, 64) is None
    mem.close()
    mem.close()
    assert mem.read_u32(end - 64) is None
