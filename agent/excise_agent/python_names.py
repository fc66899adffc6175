"""Names the Python frames of watched processes: soon after they were first seen, validated, remembered.

A code object can be freed at any time. Its key, computed in the kernel from what the object held when the stack was
walked, must equal the key of what lies there now; else the name is lost and counted (`frame_gone`), never guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from excise.frames import Frame, Stack
from excise_agent.cpython.code import CodeInfo, read_code
from excise_agent.cpython.layout import Interpreter
from excise_agent.cpython.lines import line_of
from excise_agent.cpython.memory import Memory

GONE = Frame("python", "", "")
MAX_SPOTS = 200_000  # places in code whose ids are remembered, per process
_Code = tuple[int, int]  # address, key
_Spot = tuple[int, int, int]  # address, key, byte offset of the instruction
_SHIM = -1  # no frame of the program


@dataclass(slots=True)
class _Image:
    interpreter: Interpreter
    memory: Memory
    codes: dict[_Code, CodeInfo | None] = field(default_factory=dict)
    spots: dict[_Spot, int] = field(default_factory=dict)  # its frame's id
    parent: Memory | None = None  # of the process it was forked from: the same code, should it end before it is read


class PythonNames:
    """By process: code address and key -> name; with the instruction -> line."""

    def __init__(self) -> None:
        self._images: dict[int, _Image] = {}
        self.gone = 0

    def add(self, pid: int, interpreter: Interpreter) -> None:
        """A new image of `pid`. Raises OSError when its memory cannot be opened."""
        self.forget(pid)
        self._images[pid] = _Image(interpreter, Memory(pid))

    def fork(self, parent: int, child: int) -> None:
        """The child has its parent's code at the same addresses: what was named stays named, even once it is dead."""
        image = self._images.get(parent)
        if image is None:
            return
        try:
            memory = Memory(child)
        except OSError:
            memory = image.memory  # gone already; the parent has the same image
        self.forget(child)
        self._images[child] = _Image(image.interpreter, memory, dict(image.codes), dict(image.spots), image.memory)

    def forget(self, pid: int) -> None:
        """Drops what is known of a process."""
        image = self._images.pop(pid, None)
        if image is not None and all(image.memory is not other.memory for other in self._images.values()):
            image.memory.close()

    def interpreter(self, pid: int) -> Interpreter | None:
        image = self._images.get(pid)
        return image.interpreter if image else None

    def memory(self, pid: int) -> Memory | None:
        image = self._images.get(pid)
        return image.memory if image else None

    def chain(self, pid: int, frames: Iterable[_Spot], intern: Callable[[Frame], int]) -> Stack:
        """A walked stack as frame ids. Most frames of a new stack are in stacks seen before: a look-up each."""
        image = self._images.get(pid)
        spots = image.spots if image is not None else {}
        if len(spots) > MAX_SPOTS:
            spots.clear()
        ids = []
        for spot in frames:
            if not spot[0]:
                continue
            known = spots.get(spot)
            if known is None:
                frame = self.frame(pid, *spot)
                known = spots[spot] = _SHIM if frame is None else intern(frame)
            if known != _SHIM:
                ids.append(known)
        return tuple(ids)

    def frame(self, pid: int, code: int, key: int, lasti: int) -> Frame | None:
        """The frame, GONE when it can no longer be named, None for the interpreter's own frames."""
        image = self._images.get(pid)
        if image is None:
            return GONE
        info = image.codes.get((code, key))
        if info is None:
            if (code, key) in image.codes:
                return GONE
            info = _read(image, image.memory, code, key)
            if info is None and image.parent is not None:
                info = _read(image, image.parent, code, key)
            if info is None:
                self.gone += 1
            image.codes[code, key] = info
        if info is None:
            return GONE
        if info.shim:
            return None
        line = line_of(info.linetable, info.firstlineno, lasti, image.interpreter.layout.version)
        return Frame("python", info.filename, info.qualname, line or 0)


def _read(image: _Image, memory: Memory, code: int, key: int) -> CodeInfo | None:
    """The code object, if it is still the one that was walked."""
    info = read_code(memory, image.interpreter.layout, code, image.interpreter.code_type)
    return info if info is not None and info.key == key else None
