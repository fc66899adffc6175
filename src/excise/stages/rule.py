"""What a rule is, what it is asked about, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final, Literal

from excise.names import KERNEL_STATES

Level = Literal["specific", "generic", "neutral", "boundary", "weak"]

LEVELS: Final[dict[str, str]] = {
    "specific": "decides at once",
    "generic": "a candidate, until a frame further out claims it",
    "neutral": "transparent: the frames around it decide",
    "boundary": "transparent, and nothing further out speaks for what was called from here",
    "weak": "only when nothing else decides",
}

AS_IF_RUNNING: Final = frozenset({"running", "runnable", "gil", "stolen"})
"""States in which a thread has work to do: its stage is its stack's, as if it ran."""

WAITS: Final = frozenset(KERNEL_STATES) - AS_IF_RUNNING


@dataclass(frozen=True, slots=True)
class Wait:
    """What a thread waits for, as the kernel saw it. Part of the key that verdicts are cached by."""

    state: str                   # of KERNEL_STATES
    syscall: int = -1            # x86-64 number; -1: none (page fault)
    syscall_name: str = ""
    fd_class: str = "none"       # of FD_CLASSES
    fd: int | None = None        # None: no descriptor, or a large one
    inbound: bool | None = None  # socket accepted by the target; False: connected out; None: unknown


@dataclass(frozen=True, slots=True)
class ThreadContext:
    name: str       # the thread's comm
    carrier: bool   # has run Python in this session
    main: bool
    python: bool    # its process has an interpreter


@dataclass(frozen=True, slots=True)
class Verdict:
    stage: str                   # of STAGES
    substage: str | None = None  # of SUBSTAGES
    reason: str | None = None    # of UNATTRIBUTED, when the stage is "unattributed"
    rule: str = ""               # id of the rule that decided; "": none did


@dataclass(frozen=True, slots=True)
class Conditions:
    """When a rule holds, beyond the frame. None: whatever it is."""

    states: frozenset[str] | None = None      # "running" stands for all of AS_IF_RUNNING
    syscalls: frozenset[str] | None = None    # "" is a page fault
    fd_classes: frozenset[str] | None = None
    fds: frozenset[int] | None = None
    inbound: bool | None = None
    thread: tuple[str, ...] | None = None     # globs
    main_thread: bool | None = None
    interpreter: bool | None = None
    top_level: bool | None = None             # no rule knows a frame further out; judged by the engine

    def hold(self, wait: Wait | None, thread: ThreadContext) -> bool:
        """`wait` None: on a CPU, or as if."""
        if self.states is not None and ("running" if wait is None else wait.state) not in self.states:
            return False
        if self.main_thread is not None and thread.main is not self.main_thread:
            return False
        if self.interpreter is not None and thread.python is not self.interpreter:
            return False
        if self.thread is not None and not any(fnmatchcase(thread.name, glob) for glob in self.thread):
            return False
        if self.syscalls is None and self.fd_classes is None and self.fds is None and self.inbound is None:
            return True
        return (
            wait is not None
            and (self.syscalls is None or wait.syscall_name in self.syscalls)
            and (self.fd_classes is None or wait.fd_class in self.fd_classes)
            and (self.fds is None or wait.fd in self.fds)
            and (self.inbound is None or wait.inbound is self.inbound)
        )


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """One rule, as read. A rule without matchers speaks of the wait alone, before any frame does."""

    id: str
    level: Level
    stage: str                       # "" for neutral and boundary
    why: str
    substage: str | None = None
    python: tuple[str, ...] = ()     # file glob[:qualified name glob]
    native: tuple[str, ...] = ()     # module glob[:symbol glob]
    kernel: tuple[str, ...] = ()     # symbol globs
    names: tuple[str, ...] = ()      # function name globs, for weak rules
    inherit: bool = False            # speaks for unknown code that was called from here
    claims: tuple[str, ...] = ()     # generic rules that it overrules as their caller: globs of ids; "!" excludes
    when: Conditions | None = None
    priority: int = 0
    layer: int = 0                   # 0 built in, then one more for each folder or file that was added
    examples: tuple[str, ...] = ()
    file: str = ""
    verdict: Verdict = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "verdict", Verdict(self.stage, self.substage, None, self.id))

    @property
    def has_frames(self) -> bool:
        return bool(self.python or self.native or self.kernel or self.names)

    def claims_from(self, other: Rule) -> bool:
        """Does this caller overrule `other`, a candidate?"""
        claimed = False
        for glob in self.claims:
            if glob.startswith("!"):
                if fnmatchcase(other.id, glob[1:]):
                    return False
            elif not claimed:
                claimed = fnmatchcase(other.id, glob)
        return claimed
