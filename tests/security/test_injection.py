"""What a target calls itself is text to `excise status`: no escape sequence, no markup.

Reports, flame graphs, folded stacks, labels and logs have such tests beside them.
"""

from __future__ import annotations

import io
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from excise.printable import printable
from excise_agent.status_command import render_status

HOSTILE = ("\x1b]0;owned\x07", "\x1b[2J\x1b[H", "[/red]", "[bold]", "[link=http://evil]x[/link]", "[/]", "a\\", "[",
           "\u202ereversed", "line\nbreak", "\udcff", ":smile:")
names = st.sampled_from(HOSTILE) | st.text(min_size=1, max_size=40)


def state(name: str) -> dict[str, Any]:
    return {
        "agent": {"id": name, "version": name, "pid": 1, "since_wall_ns": 1, "cpu_ns": 1, "rss_bytes": 1,
                  "config_trouble": name},
        "probes": {"attached": True, "starts": 1, "rate_hz": 19.0, "asked_by": 1, "trouble": name},
        "cost": {"governor": {"step": name}}, "budget_ratio": 0.01,
        "discovery": {"looks": 1, "processes": 1, "unreadable": 0, "cpu_s": 0.0, "refused": [name]},
        "workloads": [{"name": name, "kind": "process", "why": name, "pids": [1, 2, 3, 4], "since_wall_ns": 1,
                       "windows": 1, "ai_tax_ratio": 0.5, "ai_tax_se": None}],
        "spool": {"bytes": 0, "files": 0, "most_bytes": 1, "keep_s": 1.0, "written": 1, "dropped": 0,
                  "oldest_wall_ns": None, "lost": {name: 1}},
        "metrics": "127.0.0.1:1",
        "sinks": [{"name": name, "kind": "forward", "delivered": 1, "lost": {}, "retries": 1, "failures": 1, "lag": 1,
                   "last_error": name, "last_error_wall_ns": 1, "last_delivery_wall_ns": None}],
    }


@given(names)
@settings(deadline=None)
def test_status_shows_any_name_and_obeys_none(name: str) -> None:
    out = io.StringIO()
    render_status(state(name), Console(file=out, width=4000, highlight=False))
    text = out.getvalue()
    assert all(c.isprintable() or c == "\n" for c in text)
    shown = printable(name)
    for words in ("trouble", "down", "(most_workloads)"):
        assert f"{words}: {shown}".rstrip() in text
