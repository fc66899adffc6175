"""Frames and stacks as ids, and what has been named since the last definitions were sent."""

from __future__ import annotations

from typing import Final

from excise.batch import Definitions
from excise.frames import Frame, Process, Stack, Thread

MAX_FRAMES: Final = 65_536  # 16 MB, and a stream's reader holds as much. Five minutes of a torch server: 3 000
MAX_STACKS: Final = 65_536  # 32 MB at 50 frames each
NOT_KEPT: Final = Frame("python", "", "")


class Interner:
    """Ids count up from 0 (frames) and 1 (stacks; 0 is the empty one). `flush` gives what is new.

    An id means the same to the stream's end, so ids only grow. What short-lived processes run is the same code, and
    costs nothing; against a target that makes up code without end there is a limit, and `full` counts what it cost:
    stacks that became the empty one, and frames that became NOT_KEPT.
    """

    def __init__(self, max_frames: int = MAX_FRAMES, max_stacks: int = MAX_STACKS) -> None:
        self._frames: dict[Frame, int] = {}
        self._stacks: dict[Stack, int] = {(): 0}
        self._max_frames, self._max_stacks = max_frames, max_stacks
        self._new = Definitions()
        self.full = 0

    def __len__(self) -> int:
        """Frames and stacks that have an id."""
        return len(self._frames) + len(self._stacks)

    @property
    def fill_ratio(self) -> float:
        """Of the fuller of the two tables."""
        return max(len(self._frames) / self._max_frames, len(self._stacks) / self._max_stacks)

    def frame(self, frame: Frame) -> int:
        """The id of a frame."""
        known = self._frames.get(frame)
        if known is None:
            if len(self._frames) >= self._max_frames - 1 and frame != NOT_KEPT:
                self.full += 1
                return self.frame(NOT_KEPT)
            known = self._frames[frame] = len(self._frames)
            self._new.frames.append(frame)
        return known

    def stack(self, stack: Stack) -> int:
        """The id of a stack of frame ids, leaf first."""
        known = self._stacks.get(stack)
        if known is None:
            if len(self._stacks) > self._max_stacks:
                self.full += 1
                return 0
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
