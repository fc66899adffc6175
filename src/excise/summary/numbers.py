"""The named numbers of a summary: what each is, its key on the wire, how two of them merge.

A number that is absent was not asked for and adds nothing; one that is None was asked for and is not known, and a sum
with it is not known either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Rule = Literal["sum", "max"]
Numbers = Mapping[str, "int | None"]


@dataclass(frozen=True, slots=True)
class Number:
    """`key`: on the wire; never given to another number."""

    key: int
    name: str
    rule: Rule
    what: str


KPIS: Final = (
    Number(1, "cpu_ns", "sum", "CPU time of the process tree, user and system"),
    Number(2, "throttled_ns", "sum", "time that the cgroup's quota kept it off its CPUs"),
    Number(3, "quota_millicpus", "max", "the quota, thousandths of a CPU"),
    Number(4, "allowed_cpus", "max", "CPUs that it may use"),
    Number(5, "rss_bytes", "max", "resident memory of the tree"),
    Number(6, "disk_read_bytes", "sum", "read from block devices"),
    Number(7, "disk_write_bytes", "sum", "written to block devices"),
    Number(8, "net_in_bytes", "sum", "received in its network namespace, loopback aside"),
    Number(9, "net_out_bytes", "sum", "sent in its network namespace, loopback aside"),
    Number(10, "threads", "max", "threads that lived in a window"),
    Number(11, "carriers", "max", "of these, threads that ran Python"),
    Number(12, "listen_ports", "max", "ports that it listens on, how many"),
)
"""Of the whole process tree."""

QUALITY: Final = (
    Number(1, "samples", "sum", "timer samples"),
    Number(2, "carrier_samples", "sum", "of these, samples of carriers"),
    Number(3, "running_ns", "sum", "our running time of the threads that schedstat was read for"),
    Number(4, "sched_running_ns", "sum", "the same by schedstat"),
    Number(5, "runnable_ns", "sum", "our run-queue time of these threads"),
    Number(6, "sched_runnable_ns", "sum", "the same by schedstat"),
)
"""How far the rest can be trusted. What was lost has names of its own."""

COST: Final = (
    Number(1, "agent_ns", "sum", "CPU time of Excise's processes"),
    Number(2, "bpf_ns", "sum", "CPU time inside of its kernel programs"),
    Number(3, "tick_ns", "sum", "CPU time of its timer ticks and traps outside of the programs"),
    Number(4, "target_cpu_ns", "sum", "CPU time of the target meanwhile: what the cost is a share of"),
)
"""What the watching cost."""

TABLES: Final = {"kpis": KPIS, "quality": QUALITY, "cost": COST}
_RULES: Final = {section: {n.name: n.rule for n in table} for section, table in TABLES.items()}


def merge_numbers(section: str, one: Numbers, other: Numbers) -> dict[str, int | None]:
    """KeyError for a name that the section's table has not."""
    rules, out = _RULES[section], dict(one)
    for name, value in other.items():
        if name not in out:
            out[name] = value
            continue
        before = out[name]
        if value is None or before is None:
            out[name] = None
        else:
            out[name] = before + value if rules[name] == "sum" else max(before, value)
    return out


def check_numbers(section: str, numbers: Numbers) -> None:
    """ValueError unless each is of the table, and None or not negative."""
    for name, value in numbers.items():
        if name not in _RULES[section]:
            raise ValueError(f"{section} have no {name!r}")
        if value is not None and value < 0:
            raise ValueError(f"{name} is negative")
