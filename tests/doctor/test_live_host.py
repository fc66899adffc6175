"""This very host. Needs no rights: what is refused must be a row, not an exception."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from excise_agent._doors import Doors
from excise_agent.capabilities import collect_capabilities


def test_this_host_can_be_asked_and_leaves_no_descriptor_open() -> None:
    collect_capabilities()
    before = len(os.listdir("/proc/self/fd"))
    caps = collect_capabilities(os.getpid())
    assert len(os.listdir("/proc/self/fd")) == before
    assert {c.status for c in caps.checks} <= {"ok", "degraded", "missing", "error"}
    assert caps["target"].status in ("ok", "degraded")
    assert caps["kernel"].found == os.uname().release


def test_asking_does_not_import_the_compiler() -> None:
    code = "import sys, excise_agent.capabilities as c; c.collect_capabilities(); print('bcc' in sys.modules)"
    asked = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert asked.stdout == "False\n"


def test_process_that_is_gone_cannot_be_read() -> None:
    assert Doors(Path("/"), os.geteuid()).try_target(2**22 + 1) == "ENOENT: No such file or directory"


@pytest.mark.bpf
def test_kernel_interfaces_work_where_the_bpf_tier_runs() -> None:
    caps = collect_capabilities(os.getpid())
    assert [c for c in caps.checks if c.status == "error"] == []
    assert caps.attach == "bpf"
