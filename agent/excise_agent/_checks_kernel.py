"""Checks of rights and of the kernel."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Final

from excise_agent._check import Check
from excise_agent._doors import Doors

SYS_ADMIN: Final = 21
CAPABILITIES: Final = (
    # number, name, whether CAP_SYS_ADMIN stands in for it, what is lost without it
    (39, "CAP_BPF", True, "loading probes"),
    (38, "CAP_PERFMON", True, "sampling and tracing"),
    (19, "CAP_SYS_PTRACE", False, "reading other users' processes"),
    (21, "CAP_SYS_ADMIN", True, "nothing on its own on kernels from 5.9 on"),
    (2, "CAP_DAC_READ_SEARCH", False, "libraries in folders closed to others"),
    (40, "CAP_CHECKPOINT_RESTORE", True, "names in deleted and replaced libraries"),
)
MIN_KERNEL: Final = (5, 15)  # bpf_task_pt_regs: what a blocked thread waits for
INIT_PID_NAMESPACE: Final = "pid:[4026531836]"  # PROC_PID_INIT_INO, the same on every host
AS_ROOT: Final = "run as root: sudo excise …"


def effective_capabilities(doors: Doors) -> frozenset[int]:
    match = re.search(r"^CapEff:\s*([0-9a-f]+)$", doors.text("/proc/self/status") or "", re.MULTILINE)
    bits = int(match.group(1), 16) if match else 0
    return frozenset(n for n in range(64) if bits >> n & 1)


def rows(doors: Doors, pid: int | None) -> Iterator[Check]:
    held = effective_capabilities(doors)
    yield _capabilities(held, doors.uid)
    yield _machine(doors)
    yield _kernel(doors)
    yield _tried(
        "bpf",
        doors.try_bpf(),
        "bpf(2) loads programs",
        "everything exact: states, waits, stacks",
        "CAP_BPF and CAP_PERFMON (root has them); in a container allow bpf and perf_event_open in seccomp",
    )
    yield _btf(doors)
    yield _tried(
        "ring_buffer",
        doors.try_ring_buffer(),
        "BPF_MAP_TYPE_RINGBUF",
        "stacks of waits and samples",
        "a kernel from 5.8 on, with CAP_BPF",
    )
    yield _tried(
        "raw_tracepoints",
        doors.try_raw_tracepoint(),
        "sched_switch can be attached to",
        "time off the CPU, and exact totals",
        "CONFIG_TRACEPOINTS, with CAP_BPF and CAP_PERFMON",
    )
    yield _tried(
        "timer",
        doors.try_timer(),
        "the CPU clock can carry a program",
        "samples on the CPU",
        "CAP_PERFMON; in a container allow perf_event_open in seccomp",
    )
    yield _target(doors, held, pid)
    yield _paranoid(doors, held)
    yield _lockdown(doors)
    yield _kernel_symbols(doors)
    yield _present(
        doors,
        "uprobes",
        "/sys/bus/event_source/devices/uprobe/type",
        "calls into the CUDA driver and other libraries",
        "a kernel with CONFIG_UPROBE_EVENTS",
    )
    yield _present(
        doors,
        "kprobes",
        "/sys/bus/event_source/devices/kprobe/type",
        "nothing yet: no probe needs one",
        "a kernel with CONFIG_KPROBE_EVENTS",
    )
    yield _hardware(doors)
    yield _tracefs(doors)
    yield _pid_namespace(doors)
    yield _cgroup(doors)


def _tried(name: str, why: str, found: str, lost: str, fix: str) -> Check:
    return Check(name, "ok", found) if not why else Check(name, "error", why, lost, fix)


def _present(doors: Doors, name: str, path: str, lost: str, fix: str) -> Check:
    kind = doors.text(path)
    return (
        Check(name, "ok", f"event type {kind}") if kind else Check(name, "missing", f"no {path}", lost, fix)
    )


def _capabilities(held: frozenset[int], uid: int) -> Check:
    absent = [c for c in CAPABILITIES if c[0] not in held and not (c[2] and SYS_ADMIN in held)]
    needed = [c for c in absent if c[1] != "CAP_SYS_ADMIN"]
    who = "root" if uid == 0 else f"uid {uid}"
    if not needed:
        return Check("capabilities", "ok", f"{who}, all that are used")
    lost = "; ".join(f"{name}: {loss}" for _, name, _, loss in needed)
    names = " ".join(c[1] for c in needed)
    return Check(
        "capabilities",
        "degraded",
        f"{who}, without {names}",
        lost,
        f"{AS_ROOT}, or a unit with AmbientCapabilities={names}",
    )


def _machine(doors: Doors) -> Check:
    machine = doors.machine()
    if machine in ("x86_64", "AMD64"):
        return Check("machine", "ok", machine)
    return Check(
        "machine",
        "missing",
        machine,
        "probes: registers and system call numbers are those of x86-64",
        "an x86-64 host",
    )


def _kernel(doors: Doors) -> Check:
    release = doors.release()
    match = re.match(r"(\d+)\.(\d+)", release)
    version = (int(match.group(1)), int(match.group(2))) if match else (0, 0)
    if version >= MIN_KERNEL:
        return Check("kernel", "ok", release)
    needed = ".".join(map(str, MIN_KERNEL))
    return Check(
        "kernel", "missing", release, "probes need helpers of a later kernel", f"a kernel from {needed} on"
    )


def _btf(doors: Doors) -> Check:
    path = "/sys/kernel/btf/vmlinux"
    if doors.exists(path):
        return Check("btf", "ok", path)
    return Check(
        "btf",
        "missing",
        f"no {path}",
        "probes cannot find the kernel's fields",
        "a kernel with CONFIG_DEBUG_INFO_BTF",
    )


def _target(doors: Doors, held: frozenset[int], pid: int | None) -> Check:
    scope = doors.text("/proc/sys/kernel/yama/ptrace_scope")
    if pid is None:
        parent = os.getppid()
        pid = parent if parent > 0 and (19 in held or doors.owner(parent) == doors.uid) else os.getpid()
    why = doors.try_target(pid)
    if not why and pid == os.getpid() and 19 not in held and scope not in (None, "0"):
        why = "only our own, and Yama forbids the rest"
    fact = f"memory of pid {pid}" + (f", ptrace_scope {scope}" if scope else "")
    if why:
        return Check(
            "target",
            "error",
            f"{fact}: {why}",
            "names of Python functions; py-spy",
            f"{AS_ROOT} (CAP_SYS_PTRACE)",
        )
    if 19 in held:
        return Check("target", "ok", f"{fact} can be read")
    lost = "processes of other users" + ("" if scope in (None, "0") else ", and all but our own children")
    return Check("target", "degraded", f"{fact} can be read, without CAP_SYS_PTRACE", lost, AS_ROOT)


def _paranoid(doors: Doors, held: frozenset[int]) -> Check:
    level = doors.text("/proc/sys/kernel/perf_event_paranoid")
    if level is None:
        return Check(
            "perf_events",
            "missing",
            "no perf_event_paranoid",
            "samples on the CPU",
            "a kernel with CONFIG_PERF_EVENTS",
        )
    if held & {38, SYS_ADMIN} or (level.lstrip("-").isdigit() and int(level) <= 0):
        return Check("perf_events", "ok", f"perf_event_paranoid {level}")
    return Check(
        "perf_events",
        "degraded",
        f"perf_event_paranoid {level}, without CAP_PERFMON",
        "samples of whole CPUs",
        f"{AS_ROOT}, or sysctl kernel.perf_event_paranoid=0",
    )


def _lockdown(doors: Doors) -> Check:
    text = doors.text("/sys/kernel/security/lockdown")
    match = re.search(r"\[(\w+)\]", text or "")
    mode = match.group(1) if match else "none"
    if mode == "confidentiality":
        return Check(
            "lockdown", "error", mode, "probes may not read memory", "boot without lockdown=confidentiality"
        )
    return Check("lockdown", "ok", mode)


def _kernel_symbols(doors: Doors) -> Check:
    lines = (doors.text("/proc/kallsyms") or "").splitlines()
    restrict = doors.text("/proc/sys/kernel/kptr_restrict")
    fact = f"kptr_restrict {restrict}"
    if any(line[:16].strip("0") for line in lines[:-1] if " " in line[:17]):
        return Check("kernel_symbols", "ok", f"/proc/kallsyms, {fact}")
    if not doors.try_kernel_names():
        return Check("kernel_symbols", "ok", f"printed by the kernel (bpf_snprintf); kallsyms hides them, {fact}")
    why = f"addresses are hidden, {fact}" if lines else "no /proc/kallsyms"
    return Check(
        "kernel_symbols",
        "degraded",
        why,
        "names of kernel functions",
        f"{AS_ROOT} (CAP_SYSLOG), or sysctl kernel.kptr_restrict=0",
    )


def _hardware(doors: Doors) -> Check:
    why = doors.try_cycles()
    if not why:
        return Check("hardware_counters", "ok", "cycles can be counted")
    return Check(
        "hardware_counters",
        "missing",
        why,
        "nothing yet: cycles and instructions are not shown",
        "bare metal, or a virtual machine with a PMU",
    )


def _tracefs(doors: Doors) -> Check:
    for path in ("/sys/kernel/tracing", "/sys/kernel/debug/tracing"):
        if doors.exists(f"{path}/events"):
            return Check("tracefs", "ok", path)
    return Check(
        "tracefs",
        "missing",
        "not mounted or not readable",
        "nothing: raw tracepoints do without",
        "mount -t tracefs tracefs /sys/kernel/tracing",
    )


def _pid_namespace(doors: Doors) -> Check:
    inside = [
        name
        for path, name in (
            ("/.dockerenv", "docker"),
            ("/run/.containerenv", "podman"),
            ("/run/systemd/container", "nspawn or another"),
        )
        if doors.exists(path)
    ]
    if doors.exists("/var/run/secrets/kubernetes.io"):
        inside.append("kubernetes")
    where = f"container ({', '.join(inside)})" if inside else "no container seen"
    namespace = doors.link("/proc/self/ns/pid")
    if namespace == INIT_PID_NAMESPACE:
        return Check("pid_namespace", "ok", f"the host's, {where}")
    if not namespace:
        return Check("pid_namespace", "error", f"unknown, {where}", "whose pids these are", "mount /proc")
    return Check(
        "pid_namespace",
        "degraded",
        f"its own, {where}",
        "processes outside it",
        "docker run --pid=host, or hostPID: true in Kubernetes",
    )


def _cgroup(doors: Doors) -> Check:
    mounts = doors.text("/proc/self/mountinfo") or ""
    one = re.search(r" - cgroup \S+ (\S*,)?cpu(,\S*)?$", mounts, re.MULTILINE)
    two = " - cgroup2 " in mounts
    if one or two:
        return Check("cgroup", "ok", "version 1" + (" (hybrid)" if two else "") if one else "version 2")
    return Check(
        "cgroup",
        "missing",
        "no cpu controller is mounted",
        "CPU quotas and throttling",
        "mount -t cgroup2 cgroup2 /sys/fs/cgroup",
    )
