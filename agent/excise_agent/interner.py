"""Frames and stacks as ids, and what has been named since the last definitions were sent."""

from __future__ import annotations

from excise.batch import Definitions
from excise.frames import Frame, Process, Stack, Thread


class Interner:
    """Ids count up from 0 (frames) and 1 (stacks; 0 is the empty one). `flush` gives what is new."""

    def __init__(self) -> None:
        self._frames: dict[Frame, int] = {}
        self._stacks: dict[Stack, int] = {(): 0}
        self._new = Definitions()

    def frame(self, frame: Frame) -> int:
        """The id of a frame."""
        known = self._frames.get(frame)
        if known is None:
            known = self._frames[frame] = len(self._frames)
            self._new.frames.append(frame)
        return known

    def stack(self, stack: Stack) -> int:
        """The id of a stack of frame ids, leaf first."""
        known = self._stacks.get(stack)
        if known is None:
            known = self._stacks[stack] = len(self._stacks)
            self._new.stacks.append(stack)
        return known

    def define(self, *, process: Process | None = None, thread: Thread | None = None) -> None:
        """Sends a process or a thread along with the next definitions."""
        if process is not None:
            self._new.processes.append(process)
        if thread is not None:
            self._new.threads.append(thread)

    def flush(self) -> Definitions | None:
        """What is new since the last call; None if nothing is."""
        new, self._new = self._new, Definitions()
        return new if new.frames or new.stacks or new.processes or new.threads else None
