"""Addresses of a live program get the names that nm gives them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from native_program import Program, nm

from excise_agent.demangle import demangle
from excise_agent.maps import Maps, read_maps
from excise_agent.native import NativeSymbols

Start = Callable[[Path], int]


def load_bias(maps: Maps, path: Path, symbols: dict[str, tuple[int, int]]) -> int:
    """Where address 0 of the file lies in the process, from readelf's word on the executable segment."""
    out = subprocess.run(["readelf", "-lW", path], check=True, capture_output=True, text=True).stdout
    rows = [line.split() for line in out.splitlines() if line.strip().startswith("LOAD") and " E " in line]
    offset, vaddr = int(rows[0][1], 16), int(rows[0][2], 16)
    code = next(m for m in maps.mappings if m.path.startswith(str(path)))
    return code.start - code.offset + offset - vaddr


def names(pid: int, path: Path, wanted: dict[str, tuple[int, int]], symbols: NativeSymbols) -> dict[str, str]:
    maps = read_maps(pid)
    assert maps is not None
    bias = load_bias(maps, path, wanted)
    return {name: symbols.resolve(pid, bias + addr + size // 2).name for name, (addr, size) in wanted.items()}


def test_every_function_that_nm_knows_has_its_demangled_name(program: Program, start: Start) -> None:
    found = names(start(program.path), program.path, program.symbols, NativeSymbols())
    addresses: dict[tuple[int, int], set[str]] = {}
    for name, place in program.symbols.items():
        addresses.setdefault(place, set()).add(demangle(name.encode()))
    for name, got in found.items():
        assert got in addresses[program.symbols[name]], name
    assert found["_ZN4shop8checkoutEl"] == "shop::checkout(long)"
    total = "shop::Basket<long, 3>::total(std::vector<long, std::allocator<long> > const&) const"
    assert total in found.values()
    assert found["plain_c"] == "plain_c"
    assert "only_here(int)" in found.values()


def test_last_byte_of_a_function_is_inside_and_the_next_is_not(program: Program, start: Start) -> None:
    pid = start(program.path)
    maps = read_maps(pid)
    assert maps is not None
    bias = load_bias(maps, program.path, program.symbols)
    addr, size = program.symbols["plain_c"]
    symbols = NativeSymbols()
    assert symbols.resolve(pid, bias + addr).name == "plain_c"
    assert symbols.resolve(pid, bias + addr + size - 1).name == "plain_c"
    assert symbols.resolve(pid, bias + addr + size).name != "plain_c"


def test_module_is_the_path_as_mapped(program: Program, start: Start) -> None:
    pid = start(program.path)
    maps = read_maps(pid)
    assert maps is not None
    code = next(m for m in maps.mappings if m.path == str(program.path))
    assert NativeSymbols().resolve(pid, code.start).file == str(program.path)


def test_stripped_program_keeps_its_module_and_loses_its_names(
    program: Program, start: Start, tmp_path: Path
) -> None:
    path = tmp_path / "stripped"
    subprocess.run(["strip", "-o", path, program.path], check=True)
    found = names(start(path), path, {"plain_c": program.symbols["plain_c"]}, NativeSymbols())
    assert found == {"plain_c": ""}


def test_stripped_library_still_has_its_dynamic_names(program: Program, tmp_path: Path) -> None:
    source, library = tmp_path / "lib.c", tmp_path / "lib.so"
    source.write_text("int exported_sum(int a, int b) { return a + b; }")
    subprocess.run(["gcc", "-shared", "-fPIC", "-s", "-o", library, source], check=True)
    import ctypes

    loaded = ctypes.CDLL(str(library))
    symbols = NativeSymbols()
    found = names(os.getpid(), library, {"exported_sum": nm(library, "-D")["exported_sum"]}, symbols)
    assert loaded.exported_sum(1, 2) == 3
    assert found == {"exported_sum": "exported_sum"}


@pytest.mark.parametrize("way", ["build_id", "debuglink"])
def test_separate_debug_file_names_a_stripped_program(
    program: Program, start: Start, tmp_path: Path, way: str
) -> None:
    path, debug, host = tmp_path / "app", tmp_path / "app.debug", tmp_path / "debug"
    subprocess.run(["objcopy", "--only-keep-debug", program.path, debug], check=True)
    subprocess.run(["objcopy", "--strip-all", f"--add-gnu-debuglink={debug}", program.path, path], check=True)
    if way == "build_id":
        notes = subprocess.run(["readelf", "-n", path], check=True, capture_output=True, text=True).stdout
        build_id = notes.split("Build ID: ")[1].split()[0]
        place = host / ".build-id" / build_id[:2] / f"{build_id[2:]}.debug"
    else:
        place = tmp_path / ".debug" / "app.debug"
    place.parent.mkdir(parents=True)
    debug.rename(place)
    found = names(start(path), path, {"plain_c": program.symbols["plain_c"]}, NativeSymbols(debug_dir=host))
    assert found == {"plain_c": "plain_c"}


def test_debug_file_of_another_build_is_not_used(program: Program, start: Start, tmp_path: Path) -> None:
    path, debug = tmp_path / "app", tmp_path / "app.debug"
    subprocess.run(["objcopy", "--only-keep-debug", program.path, debug], check=True)
    subprocess.run(["objcopy", "--strip-all", f"--add-gnu-debuglink={debug}", program.path, path], check=True)
    (tmp_path / ".debug").mkdir()
    shutil.copy("/bin/true", tmp_path / ".debug" / "app.debug")
    symbols = NativeSymbols(debug_dir=tmp_path / "no")
    found = names(start(path), path, {"plain_c": program.symbols["plain_c"]}, symbols)
    assert found == {"plain_c": ""}


def test_deleted_program_is_still_named(program: Program, start: Start, tmp_path: Path) -> None:
    path = tmp_path / "gone"
    shutil.copy(program.path, path)
    pid = start(path)
    wanted = {"plain_c": program.symbols["plain_c"]}
    bias_maps = read_maps(pid)
    assert bias_maps is not None
    bias = load_bias(bias_maps, path, wanted)
    path.unlink()
    frame = NativeSymbols().resolve(pid, bias + wanted["plain_c"][0])
    assert (frame.file, frame.name) == (str(path), "plain_c")


def test_file_that_took_the_name_is_not_mistaken_for_the_mapped_one(
    program: Program, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import excise_agent.native as native
    from excise_agent.safe_open import Refused

    path = tmp_path / "app"
    shutil.copy(program.path, path)
    pid = start(path)
    wanted = {"plain_c": program.symbols["plain_c"]}
    (tmp_path / "new").write_bytes(path.read_bytes())
    # Without map_files (no CAP_SYS_ADMIN) and with a maps file that does not say "deleted" yet.
    monkeypatch.setattr(native, "open_mapping", lambda *_: Refused("denied"))
    symbols = NativeSymbols()
    assert names(pid, path, wanted, symbols) == {"plain_c": "plain_c"}
    symbols = NativeSymbols()
    symbols.resolve(pid, 0)
    (tmp_path / "new").rename(path)
    known = symbols._spaces[pid].maps
    assert known is not None
    bias = load_bias(known, path, wanted)
    assert symbols.resolve(pid, bias + wanted["plain_c"][0]).name == ""
    assert symbols.refused == {"replaced": 1}


def test_library_loaded_later_is_found_after_a_second(program: Program, tmp_path: Path) -> None:
    import ctypes

    source, library = tmp_path / "late.c", tmp_path / "late.so"
    source.write_text("int very_late(void) { return 11; }")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True)
    now = [100.0]
    symbols = NativeSymbols(clock=lambda: now[0])
    symbols.resolve(os.getpid(), 0x10)
    late = ctypes.CDLL(str(library))
    address = ctypes.cast(late.very_late, ctypes.c_void_p).value
    assert address is not None
    now[0] += 0.5
    assert symbols.resolve(os.getpid(), address).file == ""
    now[0] += 0.6
    assert symbols.resolve(os.getpid(), address).name == "very_late"


def test_vdso_and_jit_code_have_their_own_modules() -> None:
    import mmap

    maps = read_maps(os.getpid())
    assert maps is not None
    vdso = next(m for m in maps.mappings if m.path == "[vdso]")
    symbols = NativeSymbols()
    found = {symbols.resolve(os.getpid(), a).name for a in range(vdso.start, vdso.end, 16)}
    assert any("gettime" in name for name in found)
    page = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    maps = read_maps(os.getpid())
    assert maps is not None
    jit = next(m for m in maps.mappings if not m.path)
    frame = NativeSymbols().resolve(os.getpid(), jit.start)
    assert (frame.file, frame.name) == ("[anon]", "")
    page.close()


def test_forgotten_process_leaves_no_open_file(program: Program, start: Start) -> None:
    before = len(os.listdir("/proc/self/fd"))
    pid = start(program.path)
    with_child = len(os.listdir("/proc/self/fd"))
    symbols = NativeSymbols()
    names(pid, program.path, program.symbols, symbols)
    assert len(os.listdir("/proc/self/fd")) == with_child + 1 > before
    symbols.forget(pid)
    assert len(os.listdir("/proc/self/fd")) == with_child


def test_a_file_stays_open_until_the_last_process_that_maps_it_is_forgotten(
    program: Program, start: Start
) -> None:
    first, second = start(program.path), start(program.path)
    before = len(os.listdir("/proc/self/fd"))
    symbols = NativeSymbols()
    for pid in (first, second):
        names(pid, program.path, program.symbols, symbols)
    for pid, left in ((first, 1), (first, 1), (second, 0)):
        symbols.forget(pid)
        assert len(os.listdir("/proc/self/fd")) == before + left
    assert (symbols._frames, len(symbols._users), len(symbols._spaces)) == (0, 0, 0)


def test_a_library_that_is_unloaded_is_closed(tmp_path: Path) -> None:
    import _ctypes
    import ctypes

    source, library = tmp_path / "brief.c", tmp_path / "brief.so"
    source.write_text("int brief(void) { return 13; }")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True)
    loaded = ctypes.CDLL(str(library))
    address = ctypes.cast(loaded.brief, ctypes.c_void_p).value
    assert address is not None
    now = [100.0]
    symbols = NativeSymbols(clock=lambda: now[0])
    assert symbols.resolve(os.getpid(), address).name == "brief"
    before = len(os.listdir("/proc/self/fd"))
    _ctypes.dlclose(loaded._handle)
    now[0] += 11
    assert symbols.resolve(os.getpid(), address).name != "brief"
    assert len(os.listdir("/proc/self/fd")) == before - 1


def test_frames_of_all_processes_together_are_capped(
    program: Program, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    import excise_agent.native as native

    monkeypatch.setattr(native, "MAX_FRAMES", 17)
    symbols = NativeSymbols()
    for pid in (start(program.path), start(program.path)):
        maps = read_maps(pid)
        assert maps is not None
        addr = load_bias(maps, program.path, program.symbols) + program.symbols["plain_c"][0]
        for i in range(program.symbols["plain_c"][1]):
            assert symbols.resolve(pid, addr + i).name == "plain_c"
            assert sum(len(space.frames) for space in symbols._spaces.values()) == symbols._frames <= 17


def test_process_that_is_gone_gives_nameless_frames() -> None:
    frame = NativeSymbols().resolve(2**22 + 1, 0x4000)
    assert (frame.kind, frame.file, frame.name) == ("native", "", "")
