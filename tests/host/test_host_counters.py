from __future__ import annotations

import os
import socket
import time

from fake_proc import FakeProc

from excise_agent.host import NS_PER_TICK, PAGE_BYTES
from excise_agent.host_counters import host_sample, read_counters
from excise_agent.network import read_listen_ports, read_net_bytes

_ROW = " 10 0 0 0 0 0 0 "
DEV = f"""Inter-|   Receive  |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes ...
    lo: 999999{_ROW} 999999{_ROW}
  eth0:{{:8d}}{_ROW}{{:8d}}{_ROW}
veth12: 555555{_ROW} 555555{_ROW}
"""


def test_loopback_and_inner_interfaces_do_not_count(fake: FakeProc) -> None:
    fake.write("7/net/dev", DEV.format(1009, 211))
    assert read_net_bytes(7, fake.root) == (1009, 211)
    assert read_net_bytes(8, fake.root) is None


def test_listening_ports_belong_to_the_tree_that_holds_the_sockets(fake: FakeProc) -> None:
    for pid in (7, 8):
        fake.listening(pid, {501: 8000, 502: 22, 503: 9000})
        fake.listening(pid, {504: 8001}, "tcp6")
    fake.socket(7, 3, 501)
    fake.socket(7, 4, 977)  # a connection
    fake.socket(8, 5, 504)
    fake.socket(8, 6, 501)  # inherited
    assert read_listen_ports([7, 8], fake.root) == [8000, 8001]
    assert read_listen_ports([9], fake.root) is None


def test_live_listening_port_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ports = read_listen_ports([os.getpid()])
        assert ports is not None
        assert server.getsockname()[1] in ports


def test_sample_is_the_growth_between_two_looks(fake: FakeProc) -> None:
    fake.process(7, 1, ticks=(100, 50, 0, 0))
    fake.process(8, 7, ticks=(10, 0, 0, 0))
    fake.write("7/net/dev", DEV.format(1000, 2000))
    before = read_counters([7, 8], 5_000_000_000, fake.root)
    fake.process(7, 1, ticks=(160, 60, 9, 1))   # it waited for a child
    fake.write("7/io", "read_bytes: 1028672\nwrite_bytes: 8195\n")
    fake.write("7/net/dev", DEV.format(1017, 2023))
    sample = host_sample(before, read_counters([7, 8], 7_000_000_000, fake.root))
    assert (sample.start_ns, sample.end_ns) == (5_000_000_000, 7_000_000_000)
    assert sample.values == {
        "cpu_ns": 800_000_000,
        "cpus_used": 80 * NS_PER_TICK / 2_000_000_000,
        "throttled_ns": None,
        "rss_bytes": 34 * PAGE_BYTES,
        "disk_read_bytes": 1_000_000,
        "disk_write_bytes": 3,
        "net_in_bytes": 17,
        "net_out_bytes": 23,
        "listen_ports": None,
    }


def test_child_that_ended_takes_nothing_away(fake: FakeProc) -> None:
    fake.process(7, 1, ticks=(100, 0, 0, 0))
    fake.process(8, 7, ticks=(40, 0, 0, 0))
    before = read_counters([7, 8], 0, fake.root)
    fake.process(7, 1, ticks=(110, 0, 45, 0))
    after = read_counters([7], 1_000_000_000, fake.root)
    assert host_sample(before, after).values["cpus_used"] == 15 * NS_PER_TICK / 1_000_000_000


def test_empty_tree_is_not_measured_rather_than_zero(fake: FakeProc) -> None:
    fake.write("stat", "")
    sample = host_sample(read_counters([], 0, fake.root), read_counters([99], 1, fake.root))
    assert set(sample.values.values()) == {None}


def test_live_cpu_time_is_seen() -> None:
    before = read_counters([os.getpid()], time.monotonic_ns())
    until = time.process_time_ns() + 211_000_000
    while time.process_time_ns() < until:
        pass
    after = read_counters([os.getpid()], time.monotonic_ns())
    used_ns = host_sample(before, after).values["cpus_used"] * (after.at_ns - before.at_ns)
    assert 150_000_000 < used_ns < 400_000_000
