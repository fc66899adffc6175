"""A stream of items as text, one line each, for bug reports and golden tests."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from excise.batch import Batch, Cost, Definitions, End, Header, HostSample, Item, Totals
from excise.names import FD_CLASSES, KERNEL_STATES
from excise.records import WEIGHT_ONE
from excise.syscalls import syscall_name


def dump_lines(items: Iterable[Item]) -> Iterator[str]:
    """Times in ns; stacks and frames by number, in the order of their definitions."""
    frames, stacks = 0, 1
    for item in items:
        match item:
            case Header():
                yield (
                    f"header {item.boot_id} start_mono_ns={item.start_mono_ns} rate_hz={item.rate_hz:g} "
                    f"target={json.dumps(item.target)} host={json.dumps(item.host)}"
                )
            case Definitions():
                for p in item.processes:
                    line = f"process {p.pid} {p.comm!r} python={p.python} parent={p.parent} start_ns={p.start_ns}"
                    yield f"{line} {p.note}".rstrip()
                for t in item.threads:
                    yield f"thread {t.pid}/{t.tid} {t.name!r} {'carrier' if t.carrier else 'helper'}"
                for f in item.frames:
                    yield f"frame {frames} {f.kind} {f.name!r} {f.file!r}:{f.line}"
                    frames += 1
                for s in item.stacks:
                    yield f"stack {stacks} {' '.join(map(str, s))}"
                    stacks += 1
            case Batch():
                yield f"batch {item.start_ns}..{item.end_ns} rows={len(item.slices)} lost={json.dumps(item.lost)}"
                for r in item.slices:
                    what = KERNEL_STATES[int(r["state"])]
                    call = syscall_name(int(r["syscall"]))
                    on = FD_CLASSES[int(r["fd_class"])]
                    yield (
                        f"  {r['pid']}/{r['tid']} {what} {call} {on} fd={r['fd']} port={r['port']} flags={r['flags']} "
                        f"stack={r['stack']} waker={r['waker']} n={r['count']} ns={r['weight_ns']} "
                        f"runnable={r['runnable_ns']}{_thinned(r)}"
                    )
                for at in item.lengths:
                    yield f"  length row={at['row']} bucket={at['bucket']} n={at['weight'] / WEIGHT_ONE:g}"
            case Totals():
                yield f"totals {item.start_ns}..{item.end_ns}"
                for row in item.rows:
                    states = " ".join(f"{n}={int(v)}" for n, v in zip(KERNEL_STATES, row["state_ns"], strict=True) if v)
                    check = f"schedstat={row['sched_running_ns']}/{row['sched_runnable_ns']}"
                    yield f"  {row['pid']}/{row['tid']} {states} {check}{_errors(row)}"
            case HostSample():
                yield f"host {item.start_ns}..{item.end_ns} {json.dumps(item.values)}"
            case Cost():
                yield f"cost {item.start_ns}..{item.end_ns} {json.dumps(item.values)}"
            case End():
                yield f"end {item.end_mono_ns} {item.reason} {json.dumps(item.overhead)}"


def _thinned(row: Any) -> str:
    if not row["thinned"]:
        return ""
    more = row["thinned"] / WEIGHT_ONE
    return f" stands_for={row['count'] + more:g} var_us2={row['weight_var_us2']}/{row['runnable_var_us2']}"


def _errors(row: Any) -> str:
    named = [f"{n}={int(v)}" for n, v in zip(KERNEL_STATES, row["se_ns"], strict=True) if v]
    return f" se_ns={','.join(named)}" if named else ""
