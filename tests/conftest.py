"""Which tests run here: those marked `bpf` wherever the kernel lets us load a program, those marked `root` wherever we
are root; and never skipped there.

Where it does not (no root, no BPF), they are deselected and the header says so.
"""

from __future__ import annotations

import functools
import os

import pytest


@functools.cache
def may_load_programs() -> bool:
    from excise_agent import bpf

    try:
        os.close(bpf.load_program("may_we", bpf.PROG_RAW_TRACEPOINT, bytes.fromhex("b7000000000000009500000000000000")))
    except OSError:
        return False
    return True


def pytest_report_header() -> str:
    return (
        "bpf: tests run"
        if may_load_programs()
        else "bpf: this user may not load programs; tests marked bpf are left out"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    without = [] if may_load_programs() else ["bpf"]
    without += ["root"] if os.geteuid() else []
    out = [item for item in items if any(map(item.get_closest_marker, without))]
    config.hook.pytest_deselected(items=out)
    items[:] = [item for item in items if item not in out]
