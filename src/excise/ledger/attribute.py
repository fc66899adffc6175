"""Classes for rows: looked up where the combination was met before, asked of the rules where it was not."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from excise.ledger.callsite import judge_by_call
from excise.ledger.classes import UNATTRIBUTED_CLASS, class_id
from excise.ledger.definitions import Known
from excise.ledger.table import KeyTable
from excise.names import FD_CLASS_ID, FD_CLASSES, KERNEL_STATE_ID, KERNEL_STATES
from excise.stages import Rules, ThreadContext, Verdict, Wait
from excise.syscalls import syscall_name

MAX_VERDICTS: Final = 1 << 17  # remembered; 4 MB. Then all are asked for anew
_AS_IF_RUNNING = np.isin(np.arange(256), [KERNEL_STATE_ID[n] for n in ("running", "runnable", "gil")])
_SLEEP = KERNEL_STATE_ID["sleep"]
_INBOUND: Final = (False, True, None)


def wait_codes(slices: NDArray[np.void], inbound_ports: NDArray[np.int64]) -> NDArray[np.uint64]:
    """What a rule is told of a wait, in one number (n,); 0: the thread ran, or would have if it could.

    state + 1 | syscall << 16 | fd_class << 32 | fd << 40 | inbound << 48.
    """
    fd_class, port = slices["fd_class"], slices["port"]
    inbound = np.where(fd_class == FD_CLASS_ID["listen"], 1, 2)
    inet = (fd_class == FD_CLASS_ID["inet"]) & (port != 0)
    inbound[inet] = np.isin(port[inet], inbound_ports)
    parts = ((slices["state"].astype(np.int64) + 1, 0), (slices["syscall"].astype(np.uint16), 16), (fd_class, 32),
             (np.minimum(slices["fd"], 254), 40), (inbound, 48))
    out = np.zeros(len(slices), np.uint64)
    for column, shift in parts:
        out |= column.astype(np.uint64) << np.uint64(shift)
    out[_AS_IF_RUNNING[slices["state"]]] = 0
    return out


def wait_of(code: int) -> Wait | None:
    """The wait that a code stands for."""
    if not code:
        return None
    number, fd = code >> 16 & 0xFFFF, code >> 40 & 0xFF
    number -= (number & 0x8000) << 1
    return Wait(
        state=KERNEL_STATES[(code & 0xFF) - 1],
        syscall=number,
        syscall_name=syscall_name(number),
        fd_class=FD_CLASSES[code >> 32 & 0xFF],
        fd=fd if fd < 254 else None,
        inbound=_INBOUND[code >> 48],
    )


class Attributor:
    """Remembers what the rules said of (stack, thread context, wait), from window to window of one stream."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._contexts: dict[ThreadContext, int] = {}
        self._verdicts = KeyTable(2)  # stack | context << 32; wait code
        self._classes: NDArray[np.uint8] = np.zeros(0, np.uint8)

    def trim(self) -> None:
        """Forgets all when it is too much. Numbers of contexts from before are void."""
        if max(len(self._verdicts), len(self._contexts)) > MAX_VERDICTS:
            self._contexts.clear()
            self._verdicts.clear()
            self._classes = self._classes[:0]

    def context(self, context: ThreadContext) -> int:
        """The number of a context."""
        return self._contexts.setdefault(context, len(self._contexts))

    def classes(
        self, slices: NDArray[np.void], contexts: NDArray[np.int64], known: Known, inbound_ports: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """By row: the class of its wait, and that of its stack as if it ran. contexts (n,): numbers of `context`."""
        whose = slices["stack"].astype(np.uint64) | contexts.astype(np.uint64) << np.uint64(32)
        runs = self._ask(np.stack((whose, np.zeros_like(whose)), axis=1), known)
        waits = self._ask(np.stack((whose, wait_codes(slices, inbound_ports)), axis=1), known)
        judged = judge_by_call(slices, known.facts(), known.chains, runs)
        has = judged >= 0
        of_wait = has & UNATTRIBUTED_CLASS[waits] & (slices["state"] != _SLEEP)
        of_run = has & UNATTRIBUTED_CLASS[runs]
        return np.where(of_wait, judged, waits), np.where(of_run, judged, runs)

    def _ask(self, words: NDArray[np.uint64], known: Known) -> NDArray[np.int64]:
        rows = self._verdicts.find(words)
        if (rows < 0).any():
            new = np.unique(words[rows < 0], axis=0)
            contexts = list(self._contexts)
            said = [self._judge(contexts[whose >> 32], known, whose & 0xFFFFFFFF, code) for whose, code in new.tolist()]
            self._verdicts.intern(new)
            self._classes = np.concatenate((self._classes, np.array(said, np.uint8)))
            rows = self._verdicts.find(words)
        return self._classes[rows].astype(np.int64)

    def _judge(self, context: ThreadContext, known: Known, stack: int, code: int) -> int:
        verdict: Verdict = self._rules.attribute(known.stack(stack), wait_of(code), context)
        return class_id(verdict.stage, verdict.substage, verdict.reason)
