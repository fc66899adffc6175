"""What the maps take of the kernel's memory, as the kernel itself counts it."""

from __future__ import annotations

from excise_agent import bpf
from excise_agent.loader import Probes, Sizes
from soak.readings import MOST_MAP_BYTES, map_bytes

CPUS = 256


def test_all_maps_together_take_at_most_32_mb_on_a_host_of_256_cpus() -> None:
    probes = Probes.load(Sizes())
    try:
        held = map_bytes(m.fd for m in probes.maps.values())
        per_cpu = {m.fd for m in probes.maps.values() if m.kind == bpf.MAP_PERCPU_ARRAY}
    finally:
        probes.close()
    assert min(held.values()) > 0
    share = CPUS / bpf.possible_cpus()
    assert sum(held.values()) <= MOST_MAP_BYTES
    assert sum(n * share if fd in per_cpu else n for fd, n in held.items()) <= MOST_MAP_BYTES
