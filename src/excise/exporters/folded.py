"""Folded stacks: `thread;stage;root;...;leaf N`, one line a stack, for flamegraph.pl and its kin.

N is in microseconds of thread time. Kernel frames end in `_[k]`, a wait in a frame for its state, `[gil]`.
Frames carry their file but not their line, so that one function is one frame. A backslash, a `;` or a line
break inside a name is written as an escape (`\\\\`, `\\x3b`, `\\x0a`): splitting on `;` is always right.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Literal

from excise.exporters._labels import ON_CPU, base_name, missing_stack_label, raw_name, short_file
from excise.frames import Frame
from excise.printable import printable
from excise.report import Report, StackRow

Mode = Literal["all", "cpu", "off"]


def encode_folded(report: Report, mode: Mode = "all") -> str:
    """Carriers and helpers, on CPU (`cpu`), off it (`off`) or both. The sum is exact to half a microsecond.

    Each line takes the rounding error of those before it, so many small stacks do not vanish one by one.
    A stack whose time comes out at zero is left out.
    """
    if mode not in ("all", "cpu", "off"):
        raise ValueError(f"mode is {mode!r}: give 'all', 'cpu' or 'off'")
    times: defaultdict[tuple[str, ...], int] = defaultdict(int)
    for row in report.stacks:
        on_cpu = row.state in ON_CPU
        if mode == "all" or on_cpu == (mode == "cpu"):
            times[_path(row)] += row.ns
    lines = []
    passed_ns = 0
    for path, ns in sorted(times.items()):
        micros = round((passed_ns + ns) / 1000) - round(passed_ns / 1000)
        passed_ns += ns
        if micros > 0:
            lines.append(f"{';'.join(path)} {micros}\n")
    return "".join(lines)


def _path(row: StackRow) -> tuple[str, ...]:
    frames = [_frame(f) for f in reversed(row.frames)] or [missing_stack_label(row)]
    if row.state not in ON_CPU:
        frames.append(f"[{row.state}]")
    stage = row.stage if row.carrier else "helper"
    return (_escape(row.thread or "unnamed"), stage, *frames)


def _frame(frame: Frame) -> str:
    name = _escape(raw_name(frame))
    if frame.kind == "kernel":
        return f"{name}_[k]"
    file = short_file(frame.file) if frame.kind == "python" else base_name(frame.file)
    return f"{name} ({_escape(file)})" if file and frame.name else name


def _escape(text: str) -> str:
    return printable(text.replace("\\", "\\\\")).replace(";", "\\x3b")
