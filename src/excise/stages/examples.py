"""Stacks as short text, leaf first: what a rule's examples are written in, and the check that they hold.

    "kernel!vfs_read < libc.so.6!read < PIL/ImageFile.py:ImageFile.load < app.py:handle @ io read file fd=7 main"

A frame is `file:qualified name` (Python), `module!symbol` (native) or `kernel!symbol`. Behind `@` stands the wait, if
there was one, or facts of the thread: a state, a system call, a descriptor class, `fd=`, `inbound`, `outbound`,
`main`, `helper`, `no-interpreter`, `thread=`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from excise.frames import Frame
from excise.names import FD_CLASSES, KERNEL_STATES
from excise.stages.engine import Rules
from excise.stages.rule import Rule, ThreadContext, Verdict, Wait
from excise.syscalls import NAMES


@dataclass(frozen=True, slots=True)
class Example:
    frames: tuple[Frame, ...]
    wait: Wait | None
    thread: ThreadContext


def parse_example(text: str) -> Example:
    """Raises ValueError."""
    stack, _, facts = text.partition(" @ ")
    frames = tuple(_frame(part.strip()) for part in stack.split(" < ") if part.strip())
    state, syscall, fd_class = None, "", "none"
    fd: int | None = None
    inbound: bool | None = None
    name, flags = "", set()
    for word in facts.split():
        if word in KERNEL_STATES:
            state = word
        elif word.startswith("fd="):
            fd = int(word[3:])
        elif word.startswith("thread="):
            name = word[7:]
        elif word in ("inbound", "outbound"):
            inbound = word == "inbound"
        elif word in ("main", "helper", "no-interpreter"):
            flags.add(word)
        elif word in FD_CLASSES:
            fd_class = word
        elif word in NAMES:
            syscall = word
        else:
            raise ValueError(f'"{word}" in "{text}" is no state, system call, descriptor class or fact of a thread')
    wait = None
    if state is not None and state != "running":
        wait = Wait(state, NAMES.index(syscall) if syscall else -1, syscall, fd_class, fd, inbound)
    thread = ThreadContext(name=name, carrier="helper" not in flags, main="main" in flags,
                           python="no-interpreter" not in flags)
    return Example(frames, wait, thread)


def _frame(text: str) -> Frame:
    module, mark, symbol = text.partition("!")
    if mark:
        return Frame("kernel", "", symbol) if module == "kernel" else Frame("native", module, symbol)
    file, _, name = text.rpartition(":")
    return Frame("python", file, name, 1)


def failures(rules: Rules, chosen: Iterable[Rule] | None = None) -> list[str]:
    """Each example that its rule does not decide, as a sentence."""
    out = []
    for rule in rules if chosen is None else chosen:
        for text in rule.examples:
            example = parse_example(text)
            verdict = rules.attribute(example.frames, example.wait, example.thread)
            if not _holds(rule, verdict):
                stage = verdict.substage or verdict.stage
                said = f'"{verdict.rule}" says {stage}' if verdict.rule else "no rule knows it"
                out.append(f'{rule.file}: rule "{rule.id}" does not decide its example "{text}": {said}')
    return out


def _holds(rule: Rule, verdict: Verdict) -> bool:
    """Rules that decide nothing are shown by an example in which nothing, or another rule, does."""
    return verdict.rule == rule.id or (not rule.stage and verdict.rule != rule.id)
