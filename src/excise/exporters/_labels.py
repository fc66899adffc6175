"""Frames and waits as text. Names come from the watched program and are not trusted: a function may be called
anything, escape sequences and line breaks included."""

from __future__ import annotations

from typing import Final

from excise.frames import Frame
from excise.printable import printable
from excise.report import StackRow

ON_CPU: Final = ("running_user", "running_kernel")
"""The states that are on a CPU; every other one waits."""


def short_file(file: str) -> str:
    """The last two parts of a path: enough to tell `torch/functional.py` from `jax/functional.py`."""
    return "/".join(file.rsplit("/", 2)[-2:]).lstrip("/")


def base_name(file: str) -> str:
    return file.rsplit("/", 1)[-1]


def raw_name(frame: Frame) -> str:
    """What the frame is called, not yet fit to print. Without a symbol it goes by its module, in brackets."""
    return frame.name or (f"[{base_name(frame.file)}]" if frame.file else f"[unknown {frame.kind}]")


def frame_name(frame: Frame) -> str:
    return printable(raw_name(frame))


def frame_place(frame: Frame) -> str:
    """Where it is: `torch/functional.py:42`, `libtorch_cpu.so`, `kernel`."""
    if frame.kind == "kernel":
        return "kernel"
    if frame.kind == "native":
        return printable(base_name(frame.file)) if frame.name else ""
    place = printable(short_file(frame.file))
    return f"{place}:{frame.line}" if frame.line else place


def wait_label(row: StackRow) -> str:
    """The pseudo frame at the tip of a wait, `[gil]` or `[net: epoll_wait]`; "" on CPU."""
    if row.state in ON_CPU:
        return ""
    wait = printable(row.wait)
    return f"[{row.state}: {wait}]" if wait else f"[{row.state}]"


def missing_stack_label(row: StackRow) -> str:
    """What stands in for the frames of a row that has none."""
    return f"({row.missing or row.reason or 'no_stack'})"
