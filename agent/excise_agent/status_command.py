"""`excise status`: what a running agent says of itself, for people."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from excise.printable import printable
from excise_agent.daemon.state import cost_ratio

_SPANS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def is_well(state: Mapping[str, Any]) -> bool:
    """Whether nothing needs somebody: the probes go on where they are wanted, and every sink takes what it gets."""
    trouble = state["probes"]["trouble"] or state["agent"]["config_trouble"]
    return not trouble and not any(s["failures"] for s in state["sinks"])


def render_status(state: Mapping[str, Any], console: Console) -> None:
    """Tables and lines. What has names in it is Text: in a string rich would take [brackets] of a name for markup."""
    agent, probes = state["agent"], state["probes"]
    _say(
        console, f"Excise {printable(agent['version'])}, pid {agent['pid']}, since {_ago(agent['since_wall_ns'])}; "
        f"agent id {printable(agent['id'][:12])}"
    )
    _say(console, _probes(state))
    if state["workloads"]:
        console.print(_workloads(state["workloads"]))
    else:
        _say(console, f"nothing to watch among {state['discovery']['processes']} processes of this host")
    if refused := state["discovery"]["refused"]:
        _say(console, f"not watched, there are too many (most_workloads): {', '.join(map(printable, refused))}")
    _say(console, _spool(state["spool"]))
    if state["sinks"]:
        console.print(_sinks(state["sinks"]))
    where = f"http://{state['metrics']}/metrics" if state["metrics"] else "not served ([prometheus] enabled = false)"
    _say(console, f"metrics: {where}")
    for trouble in (agent["config_trouble"], probes["trouble"]):
        if trouble:
            console.print(Text.assemble(("trouble:", "red"), f" {printable(trouble)}"))


def _say(console: Console, line: str) -> None:
    console.print(Text(line))


def _probes(state: Mapping[str, Any]) -> str:
    probes = state["probes"]
    if not probes["attached"]:
        return "probes: off"
    words = [f"probes: on, {probes['rate_hz']:g} samples a second and CPU"]
    if probes["asked_by"]:
        words.append(f"asked for by {probes['asked_by']} attach")
    ratio, budget = cost_ratio(state), state["budget_ratio"]
    if ratio is not None:
        limit = f"budget {budget:.1%}" if budget is not None else "no budget"
        words.append(f"cost {ratio:.2%} of what is watched since they came on ({limit})")
    step = ((state["cost"] or {}).get("governor") or {}).get("step")
    if step:
        words.append(f"sees {printable(step)}")
    return "; ".join(words)


def _workloads(rows: list[Mapping[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name, right in (("workload", 0), ("kind", 0), ("processes", 1), ("since", 0), ("windows", 1), ("AI tax", 1)):
        table.add_column(name, justify="right" if right else "left")
    for row in rows:
        tax, se = row["ai_tax_ratio"], row["ai_tax_se"]
        words = "–" if tax is None else f"{tax:.1%}" + (f" ± {se:.1%}" if se is not None else "")
        pids = row["pids"]
        who = f"{len(pids)} ({', '.join(map(str, pids[:3]))}{', …' if len(pids) > 3 else ''})"
        called = Text(printable(row["name"]))
        table.add_row(called, row["kind"], who, _ago(row["since_wall_ns"]), str(row["windows"]), words)
    return table


def _spool(spool: Mapping[str, Any]) -> str:
    words = [
        f"history: {spool['bytes'] / 1e6:.1f} MB of {spool['most_bytes'] / 1e6:.0f} MB",
        f"{spool['written']} windows written",
    ]
    if spool["oldest_wall_ns"]:
        words.append(f"the oldest {_ago(spool['oldest_wall_ns'])}")
    lost = {reason: n for reason, n in spool["lost"].items() if n}
    words.append("lost: " + (", ".join(f"{n} {printable(reason)}" for reason, n in lost.items()) or "none"))
    return "; ".join(words)


def _sinks(rows: list[Mapping[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name, right in (("sink", 0), ("kind", 0), ("delivered", 1), ("lost", 1), ("behind", 1), ("state", 0)):
        table.add_column(name, justify="right" if right else "left")
    for row in rows:
        if row["failures"]:
            words = Text.assemble(("down", "red"), f": {printable(row['last_error'] or '')}")
        elif row["last_delivery_wall_ns"]:
            words = Text(f"last delivery {_ago(row['last_delivery_wall_ns'])}")
        else:
            words = Text("nothing delivered yet")
        lag = "–" if row["lag"] is None else str(row["lag"])
        table.add_row(
            Text(printable(row["name"])), row["kind"], str(row["delivered"]), str(sum(row["lost"].values())), lag, words
        )
    return table


def _ago(wall_ns: int) -> str:
    seconds = max(time.time() - wall_ns / 1e9, 0.0)
    length, unit = next(((n, u) for n, u in _SPANS if seconds >= n), (1, "s"))
    return f"{seconds / length:.0f} {unit} ago"
