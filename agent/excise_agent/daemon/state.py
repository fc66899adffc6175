"""How the agent is: what is watched, since when, at what cost, what was shipped, what was lost. `excise.status/1`."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from excise import __version__
from excise_agent.daemon.observed import Observed
from excise_agent.governor import LADDER
from excise_agent.host import read_rss_bytes
from excise_agent.sinks.prometheus_status import AgentStatus, SinkStatus
from excise_agent.spending import own_cpu_ns

if TYPE_CHECKING:
    from excise_agent.daemon.agent import Agent

SCHEMA: Final = "excise.status/1"


def read_state(agent: Agent) -> dict[str, Any]:
    """JSON's types only. None: not known."""
    watching, watch = agent.watching, agent.watching.watch
    spool = agent.spool.state()
    return {
        "schema": SCHEMA,
        "agent": {
            "id": agent.agent,
            "version": __version__,
            "pid": os.getpid(),
            "since_wall_ns": agent.started_ns,
            "cpu_ns": own_cpu_ns(),
            "rss_bytes": read_rss_bytes(os.getpid()),
            "config_trouble": agent.config_trouble or None,
        },
        "probes": {
            "attached": watch is not None,
            "starts": watching.starts,
            "rate_hz": watch.rate_hz if watch is not None else None,
            "asked_by": watching.taps,
            "trouble": agent.trouble or None,
            "lost_outside": watching.lost_outside,
        },
        "cost": watch.overhead_now() if watch is not None else None,
        "budget_ratio": watching.settings.budget_ratio,
        "discovery": {
            "looks": agent.discovery.counts.looks,
            "processes": agent.discovery.counts.processes,
            "unreadable": agent.discovery.counts.unreadable,
            "cpu_s": agent.discovery.counts.cpu_s,
            "last_wall_ns": agent.last_look_ns or None,
            "refused": sorted(w.name for w in watching.refused),
        },
        "workloads": [_workload(o) for o in watching.observed],
        "spool": {
            "bytes": spool.bytes,
            "files": spool.files,
            "most_bytes": agent.config.history.most_bytes,
            "keep_s": agent.config.history.keep_s,
            "written": spool.written,
            "dropped": spool.dropped,
            "oldest_wall_ns": spool.oldest_wall_ns,
            "lost": {**spool.lost, **({"unnumbered": agent.outbox.unnumbered} if agent.outbox.unnumbered else {})},
        },
        "metrics": agent.shipping.listens or None,
        "sinks": [
            {
                "name": s.name,
                "kind": kind,
                "delivered": s.delivered,
                "lost": dict(s.lost),
                "retries": s.retries,
                "failures": s.failures,
                "lag": s.lag,
                "waiting_since_wall_ns": s.waiting_since_wall_ns,
                "last_error": s.last_error,
                "last_error_wall_ns": s.last_error_wall_ns,
                "last_delivery_wall_ns": s.last_delivery_wall_ns,
            }
            for kind, s in agent.shipping.states()
        ],
    }


def _workload(observed: Observed) -> dict[str, Any]:
    last = observed.last
    return {
        "name": observed.workload.name,
        "kind": observed.workload.kind,
        "why": observed.why,
        "pids": sorted(observed.part.pids),
        "since_wall_ns": observed.since_wall_ns,
        "windows": observed.windows,
        "ai_tax_ratio": last.ai_tax_ratio() if last is not None else None,
        "ai_tax_se": last.ai_tax_se() if last is not None else None,
    }


def cost_ratio(state: Mapping[str, Any]) -> float | None:
    """Of the watched processes' CPU time, all parts of it; None: not known."""
    cost = state["cost"] or {}
    parts = [cost.get(name) for name in ("agent_cpu_ratio", "bpf_cpu_ratio", "tick_cpu_ratio")]
    return None if None in parts else sum(p for p in parts if p is not None)


def status_line(state: Mapping[str, Any]) -> str:
    """One line for systemctl."""
    workloads, spool = state["workloads"], state["spool"]
    config_trouble = state["agent"]["config_trouble"]
    if state["probes"]["trouble"]:
        words = [f"probes off: {state['probes']['trouble']}"]
    elif not workloads:
        words = [f"nothing to watch among {state['discovery']['processes']} processes; no probe is on"]
    else:
        processes = sum(len(w["pids"]) for w in workloads)
        words = [f"watching {_count(len(workloads), 'workload')} ({_count(processes, 'process', 'processes')})"]
        if (ratio := cost_ratio(state)) is not None:
            words.append(f"cost {ratio:.2%} of their CPU")
    if config_trouble:
        words.append(config_trouble)
    words.append(f"{spool['written']} windows kept")
    if lost := sum(spool["lost"].values()):
        words.append(f"{lost} lost")
    down = [s["name"] for s in state["sinks"] if s["failures"]]
    if down:
        words.append(f"sink {', '.join(down)} down")
    return "; ".join(words)


def _count(n: int, one: str, more: str = "") -> str:
    return f"{n} {one if n == 1 else more or one + 's'}"


def metrics_status(agent: Agent, state: Mapping[str, Any]) -> AgentStatus:
    """The same for the endpoint."""
    watch, cost = agent.watching.watch, state["cost"] or {}
    step = (cost.get("governor") or {}).get("step")
    spool, discovery = state["spool"], state["discovery"]
    return AgentStatus(
        version=__version__,
        python=platform.python_version(),
        start_s=agent.started_ns / 1e9,
        cpu_s={
            "agent": state["agent"]["cpu_ns"] / 1e9,
            "bpf": agent.watching.programs_ns / 1e9,
            "tick": agent.watching.ticks_ns / 1e9,
        },
        resident_bytes=state["agent"]["rss_bytes"],
        overhead_ratio=cost_ratio(state),
        budget_ratio=state["budget_ratio"],
        rate_hz=state["probes"]["rate_hz"],
        step=next((i for i, s in enumerate(LADDER) if s.name == step), None),
        step_name=step,
        probes=dict.fromkeys(cost.get("programs") or (), watch is not None),
        processes=sum(len(w["pids"]) for w in state["workloads"]),
        workloads=len(state["workloads"]),
        scans=discovery["looks"],
        scan_cpu_s=discovery["cpu_s"],
        last_scan_s=_seconds(discovery["last_wall_ns"]),
        windows_lost=spool["lost"],
        spool_bytes=spool["bytes"],
        spool_limit_bytes=spool["most_bytes"],
        spool_entries=spool["written"] - spool["dropped"],
        spool_oldest_s=spool["oldest_wall_ns"] / 1e9 if spool["oldest_wall_ns"] else None,
        sinks=tuple(
            SinkStatus(
                name=s["name"],
                kind=s["kind"],
                delivered=s["delivered"],
                lost=s["lost"],
                failures=s["retries"],
                up=None if s["last_delivery_wall_ns"] is None and not s["failures"] else not s["failures"],
                lag_windows=s["lag"],
                lag_s=_lag_s(s["lag"], s["waiting_since_wall_ns"]),
                last_success_s=_seconds(s["last_delivery_wall_ns"]),
                last_error_s=_seconds(s["last_error_wall_ns"]),
            )
            for s in state["sinks"]
        ),
    )


def _seconds(wall_ns: int | None) -> float | None:
    return wall_ns / 1e9 if wall_ns is not None else None


def _lag_s(windows: int | None, since_wall_ns: int | None) -> float | None:
    """Age of the oldest window that waits."""
    if windows == 0:
        return 0.0
    return max(time.time() - since_wall_ns / 1e9, 0.0) if since_wall_ns is not None else None
