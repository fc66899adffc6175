"""What a look reads, and that it is bounded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fake_host import LIBC, TORCH, FakeHost, by_pid

from excise_agent.discovery import Discovery, table
from excise_agent.discovery import search as searching
from excise_agent.discovery.libraries import Libraries, MapsScan

BIG = 1 << 18  # pages: a gigabyte


@contextmanager
def counted(patch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """Calls of what reads /proc."""
    calls = dict.fromkeys(("open", "read", "pread", "listdir", "readlink"), 0)

    def counting(name: str, real: Any) -> Any:
        def call(*args: Any, **more: Any) -> Any:
            calls[name] += 1
            return real(*args, **more)

        return call

    with patch.context() as patched:
        for name in calls:
            patched.setattr(os, name, counting(name, getattr(os, name)))
        yield calls


def steady(host: FakeHost, **more: Any) -> Discovery:
    discovery = host.discovery(**more)
    for _ in range(4):
        host.look(discovery)
    return discovery


def test_an_idle_look_costs_one_read_a_process(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    for pid in range(50, 350):
        host.add(pid)
    for pid in range(1000, 1200):
        host.add(pid, 2, "kworker", flags=0x200000, pages=0)
    (host.root / "loadavg").write_text("0.00 0.00 0.00 1/500 1199\n")
    discovery = steady(host)
    with counted(monkeypatch) as calls:
        for _ in range(table.LISTINGS):
            host.look(discovery)
    assert calls["pread"] == table.LISTINGS * 301
    assert calls["listdir"] == 1
    assert calls["open"] <= table.LISTINGS * 2  # the one whose turn it is: stat, and maps in every second look


def test_a_new_process_costs_no_listing(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    host.add(50)
    (host.root / "loadavg").write_text("0.00 0.00 0.00 1/500 60\n")
    discovery = steady(host)
    host.add(63, maps=(TORCH,))
    host.add(64)
    host.write(64, "status", "Name:\tx\nTgid:\t63\n")  # a thread can be opened, and stands in no listing
    (host.root / "loadavg").write_text("0.00 0.00 0.00 1/500 64\n")
    with counted(monkeypatch) as calls:
        assert set(by_pid(host.look(discovery))) == {63}
    assert calls["listdir"] == 0 and discovery.counts.processes == 2


def test_a_process_that_was_not_to_be_seen_yet_is_tried_again(host: FakeHost) -> None:
    host.add(50)
    (host.root / "loadavg").write_text("0.00 0.00 0.00 1/500 60\n")
    discovery = steady(host)
    (host.root / "loadavg").write_text("0.00 0.00 0.00 1/500 61\n")
    assert not host.look(discovery).found
    host.add(61, maps=(TORCH,))
    assert set(by_pid(host.look(discovery))) == {61}


@pytest.mark.parametrize("counter", ["5", "60000", "x", ""])
def test_a_counter_that_went_round_or_far_ahead_or_is_nonsense_means_a_listing(host: FakeHost, counter: str) -> None:
    host.add(50)
    (host.root / "loadavg").write_text("0.00 0.00 0.00 1/500 60\n")
    discovery = steady(host)
    host.add(7, maps=(TORCH,))
    (host.root / "loadavg").write_text(f"0.00 0.00 0.00 1/500 {counter}\n")
    assert set(by_pid(host.look(discovery))) == {7}


def test_a_library_that_is_loaded_late_is_found_at_the_next_look(host: FakeHost) -> None:
    host.add(50)
    discovery = steady(host)
    host.grow(50, 30_000, LIBC, TORCH)
    assert set(by_pid(host.look(discovery))) == {50}


def test_a_library_is_found_below_the_high_water_mark_too(host: FakeHost) -> None:
    host.add(50, pages=BIG)
    discovery = steady(host)
    host.grow(50, BIG - 5000, LIBC, TORCH)
    assert set(by_pid(host.look(discovery))) == {50}


def test_a_process_of_many_mappings_that_goes_on_growing_is_read_seldom(host: FakeHost) -> None:
    names = [f"/a/lib{n}.so" for n in range(20_000)]
    host.add(50, maps=tuple(names))
    discovery = steady(host)
    before = discovery.counts
    for n in range(20):
        host.grow(50, 40_000 + n * 1000, *names)
        host.look(discovery)
    assert discovery.counts.searches - before.searches <= 3


def test_changes_that_mean_nothing_cost_no_more_than_their_share(host: FakeHost) -> None:
    for pid in range(50, 110):
        host.add(pid, maps=tuple(f"/a/lib{n}.so" for n in range(60)))
    discovery = steady(host)
    before = discovery.counts.searched_bytes
    for n in range(10):
        for pid in range(50, 110):
            host.grow(pid, 19_000 + n % 2, *(f"/a/lib{n}.so" for n in range(60)))
        host.look(discovery)
    assert discovery.counts.searched_bytes - before <= 10 * (searching.IN_PASSING_BYTES + 8192)


def test_those_that_wait_have_their_turn(host: FakeHost) -> None:
    for pid in range(50, 70):
        host.add(pid)
    discovery = steady(host)
    host.grow(69, 19_999, LIBC, TORCH)
    looks = 0
    while not discovery.watched and looks < 20:
        for pid in range(50, 69):
            host.grow(pid, 19_000 + looks % 2, LIBC)
        host.look(discovery)
        looks += 1
    assert looks <= 20 // 2 + 1


def test_an_exec_that_changes_no_size_is_found_in_turn(host: FakeHost) -> None:
    for pid in range(50, 60):
        host.add(pid)
    discovery = steady(host)
    host.map(55, TORCH)
    for _ in range(25):
        host.look(discovery)
    assert [found.pid for found in discovery.watched] == [55]


def test_a_flood_of_new_processes_is_taken_a_piece_at_a_time_and_none_is_forgotten(host: FakeHost) -> None:
    count = table.ENROL * 2 + 10
    for pid in range(100, 100 + count):
        host.add(pid)
    host.add(99_999, maps=(TORCH,))
    discovery = host.discovery()
    assert not host.look(discovery).found
    assert discovery.counts.processes == table.ENROL and discovery.counts.waiting == count + 1 - table.ENROL
    host.look(discovery)
    assert set(by_pid(host.look(discovery))) == {99_999}


def test_a_watched_one_is_reported_gone_during_a_flood(host: FakeHost) -> None:
    host.add(50, maps=(TORCH,))
    discovery = steady(host)
    for pid in range(100, 100 + table.ENROL * 3):
        host.add(pid)
    host.remove(50)
    assert [gone.pid for gone in host.look(discovery).gone] == [50]


def test_two_hundred_that_start_and_die_between_looks_leave_nothing(host: FakeHost) -> None:
    host.add(50, maps=(TORCH,))
    discovery = steady(host)
    descriptors = len(os.listdir("/proc/self/fd"))
    for n in range(2):
        for pid in range(1000, 1200):
            maps = (TORCH,) if pid % 2 else (LIBC,)
            host.add(pid, maps=maps, start=n + 1, cgroup=f"0::/system.slice/{pid % 7}.service")
        assert len(host.look(discovery).found) == 200
        for pid in range(1000, 1200):
            host.remove(pid)
        assert len(host.look(discovery).gone) == 200
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert discovery.counts.processes == 1 and len(discovery.watched) == 1


def test_a_pid_that_is_another_process_now_is_gone_and_found(host: FakeHost) -> None:
    host.add(50, maps=(TORCH,), start=500)
    discovery = host.discovery(most_held=0)
    host.look(discovery)
    host.add(50, maps=(TORCH,), start=900)
    changes = host.look(discovery)
    assert [gone.start_ns for gone in changes.gone] == [5_000_000_000]
    assert [found.start_ns for found in changes.found] == [9_000_000_000]


def test_without_descriptors_all_is_found_all_the_same(host: FakeHost) -> None:
    for pid in range(50, 60):
        host.add(pid)
    before = len(os.listdir("/proc/self/fd"))
    discovery = steady(host, most_held=4)
    assert len(os.listdir("/proc/self/fd")) == before + 4
    for pid in (50, 59):
        host.grow(pid, 40_000, TORCH)
    assert set(by_pid(host.look(discovery))) == {50, 59}
    discovery.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_maps_that_may_not_be_read_are_counted(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    host.add(50)
    real = os.open

    def refuse(path: Any, *args: Any, **more: Any) -> int:
        if str(path).endswith("/50/maps"):
            raise PermissionError
        return real(path, *args, **more)

    monkeypatch.setattr(os, "open", refuse)
    discovery = host.discovery()
    assert not host.look(discovery).found
    assert discovery.counts.unreadable == 1


@pytest.mark.parametrize("missing", ["stat", "statm", "status", "maps", "cgroup", "cmdline", "comm", "exe"])
def test_a_process_that_exits_while_it_is_read_is_no_error(host: FakeHost, missing: str) -> None:
    host.add(50, maps=(TORCH,))
    host.add(51, 50)
    (host.root / "50" / missing).unlink()
    discovery = host.discovery()
    host.look(discovery)
    host.remove(50)
    host.look(discovery)
    assert 50 not in {found.pid for found in discovery.watched}


@pytest.mark.parametrize(("mean_s", "interval_s"), [(0.0, 1.0), (0.0002, 1.0), (0.0007, 1.4), (0.5, 1.8)])
def test_looks_that_are_dear_are_spaced_and_never_beyond_two_seconds(
    host: FakeHost, mean_s: float, interval_s: float
) -> None:
    discovery = host.discovery()
    discovery._mean_s = mean_s
    assert discovery.interval_s == pytest.approx(interval_s)


# -- maps


def scan(tmp_path: Path, text: bytes, piece: int = 1 << 20) -> MapsScan:
    (tmp_path / "7").mkdir(exist_ok=True)
    (tmp_path / "7/maps").write_bytes(text)
    found = MapsScan(7, Libraries(("libtorch*.so*", "_pywrap_tensorflow*.so", "lib[xy]?.so")), tmp_path)
    while found.read(piece) == "more":
        pass
    return found


LINE = b"7f00-7f01 r--p 00000000 08:01 131                        "


@pytest.mark.parametrize(("path", "name"), [
    (b"/opt/my models/libtorch_cpu.so", "libtorch_cpu.so"),
    (b"/libtorch.so.2 (deleted)", "libtorch.so.2"),
    (b"/a\\012b/libtorch.so", "libtorch.so"),
    (b"/a/_pywrap_tensorflow_internal.so", "_pywrap_tensorflow_internal.so"),
    (b"/a/libx1.so", "libx1.so"),
    (b"/libtorch\x1b\xff.so", "libtorch?\ufffd.so"),
])  # fmt: skip
def test_a_base_name_is_found_whatever_stands_around_it(tmp_path: Path, path: bytes, name: str) -> None:
    assert scan(tmp_path, LINE + b"/usr/bin/x\n" + LINE + path + b"\n").library == name


@pytest.mark.parametrize("path", [
    b"[anon:/libtorch.so", b"[anon:/x/libtorch.so]", b"/libtorch.so/x", b"/memfd:libtorch.so (deleted)", b"",
    b"/libtorch\\012x", b"/a/liblibtorch.so", b"/a/libtorch.sO", b"/a/libz1.so",
])  # fmt: skip
def test_what_only_looks_like_one_is_none(tmp_path: Path, path: bytes) -> None:
    assert scan(tmp_path, LINE + path + b"\n").outcome == "none"


def test_a_long_one_is_read_in_pieces(tmp_path: Path) -> None:
    text = b"".join(LINE + b"/a/%d.so\n" % n for n in range(40_000)) + LINE + b"/a/libtorch.so\n"
    found = scan(tmp_path, text, piece=1 << 18)
    assert found.library == "libtorch.so" and found.read_bytes == len(text)


def test_a_long_one_is_found_over_several_looks(host: FakeHost) -> None:
    host.add(50, maps=(*(f"/a/{n}.so" for n in range(40_000)), TORCH))
    discovery = host.discovery()
    looks = 0
    while not host.look(discovery).found:
        looks += 1
        assert looks <= (host.root / "50/maps").stat().st_size >> 20
    assert looks > 0


def test_lines_without_an_end_are_bounded(tmp_path: Path) -> None:
    assert scan(tmp_path, b"/" * (20 << 20)).outcome == "none"
