"""Names the Python frames of watched processes: soon after they were first seen, validated, remembered.

A code object can be freed at any time. Its key, computed in the kernel from what the object held when the stack was
walked, must equal the key of what lies there now; else the name is lost and counted (`frame_gone`), never guessed.
So is that of a program which makes up code faster than we are willing to read it (patience.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from excise.frames import Frame, Stack
from excise_agent.cpython.code import CodeInfo, read_code
from excise_agent.cpython.layout import Interpreter
from excise_agent.cpython.lines import line_of
from excise_agent.cpython.memory import Memory
from excise_agent.layers import Layers
from excise_agent.patience import CODE_BYTES, Patience

GONE = Frame("python", "", "")
MAX_BYTES = 24 << 20  # of names, about, of all processes. A torch server's take 2 MB; a target could name without end
_COUNT_BYTES = 2 << 20  # so much is added between two counts of what is held
_SPOT_BYTES = 250  # key, its numbers, the entry
_CODE_BYTES = 500  # and the line table and the names
_Code = tuple[int, int]  # address, key
_Spot = tuple[int, int, int]  # address, key, byte offset of the instruction
_FOREBEARS = 4  # generations; a worker of a fork server has two
_SHIM = -1  # no frame of the program
_LOST = CodeInfo("", "", 0, b"", 0, False)  # was no longer there when it was to be read


@dataclass(slots=True)
class _Image:
    interpreter: Interpreter
    memory: Memory
    owned: bool  # whether `memory` is its own to close, and not its parent's
    codes: Layers[_Code, CodeInfo]
    spots: Layers[_Spot, int]  # its frame's id
    patience: Patience  # its forks' too
    forebears: tuple[Memory, ...] = ()  # it was forked from: the same code, should it end before it is read


class PythonNames:
    """By process: code address and key -> name; with the instruction -> line.

    Forks share what their parent knew. They do not learn from one another: in two forks that run alike, different
    code can come to lie at one address with one key.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._images: dict[int, _Image] = {}
        self._max_bytes = max_bytes
        self._new_bytes = 0  # since the last count
        self.gone = 0
        self.codes_read = 0  # code objects that were met for the first time

    def __len__(self) -> int:
        """Processes that are known."""
        return len(self._images)

    def add(self, pid: int, interpreter: Interpreter) -> None:
        """A new image of `pid`. Raises OSError when its memory cannot be opened."""
        self.forget(pid)
        self._images[pid] = _Image(interpreter, Memory(pid), True, Layers(), Layers(), Patience())

    def fork(self, parent: int, child: int) -> None:
        """The child has its parent's code at the same addresses: what was named stays named, even once it is dead."""
        image = self._images.get(parent)
        if image is None:
            return
        try:
            memory, owned = Memory(child), True
        except OSError:
            memory, owned = image.memory, False  # gone already; the parent has the same image
        self.forget(child)
        forebears = (image.memory, *image.forebears)[:_FOREBEARS]
        self._images[child] = _Image(
            image.interpreter, memory, owned, image.codes.copy(), image.spots.copy(), image.patience, forebears
        )

    def forget(self, pid: int) -> None:
        """Drops what is known of a process."""
        image = self._images.pop(pid, None)
        if image is not None and image.owned:
            image.memory.close()  # a fork that reads from it finds nothing, as it would of a process that has ended

    def interpreter(self, pid: int) -> Interpreter | None:
        image = self._images.get(pid)
        return image.interpreter if image else None

    def memory(self, pid: int) -> Memory | None:
        image = self._images.get(pid)
        return image.memory if image else None

    def chain(self, pid: int, frames: Iterable[_Spot], intern: Callable[[Frame], int]) -> Stack:
        """A walked stack as frame ids. Most frames of a new stack are in stacks seen before: a look-up each."""
        image = self._images.get(pid)
        spots: Layers[_Spot, int] = image.spots if image is not None else Layers()
        ids = []
        for spot in frames:
            if not spot[0]:
                continue
            known = spots.get(spot)
            if known is None and image is not None and not image.patience.left():
                self.gone += 1
                known = intern(GONE)
            elif known is None:
                frame = self.frame(pid, *spot)
                known = spots[spot] = _SHIM if frame is None else intern(frame)
                self._charge(_SPOT_BYTES)
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
            info = _read(image, code, key)
            self.codes_read += 1
            if info is None:
                self.gone += 1
                info = _LOST
            image.codes[code, key] = info
            image.patience.spend(CODE_BYTES)
            self._charge(_bytes_of(info))
        if info is _LOST:
            return GONE
        if info.shim:
            return None
        image.patience.spend(len(info.linetable))
        line = line_of(info.linetable, info.firstlineno, lasti, image.interpreter.layout.version)
        return Frame("python", info.filename, info.qualname, line or 0)

    def _charge(self, nbytes: int) -> None:
        """Counts what was added; when all is too much, all is forgotten: it is read again when it is met again."""
        self._new_bytes += nbytes
        if self._new_bytes < min(_COUNT_BYTES, self._max_bytes):
            return
        self._new_bytes = 0
        if self.nbytes > self._max_bytes:
            for image in self._images.values():
                image.codes.clear()
                image.spots.clear()

    @property
    def nbytes(self) -> int:
        """Memory held by names, about. What forks share counts once."""
        codes = {id(part): part for image in self._images.values() for part in image.codes.parts()}
        spots = {id(part): part for image in self._images.values() for part in image.spots.parts()}
        held = _SPOT_BYTES * sum(map(len, spots.values()))
        return held + sum(_bytes_of(info) for part in codes.values() for info in part.values())


def _bytes_of(info: CodeInfo) -> int:
    return _CODE_BYTES + len(info.linetable) + len(info.filename) + len(info.qualname)


def _read(image: _Image, code: int, key: int) -> CodeInfo | None:
    """The code object, where it is still the one that was walked."""
    for memory in (image.memory, *image.forebears):
        info = read_code(memory, image.interpreter.layout, code, image.interpreter.code_type)
        if info is not None and info.key == key:
            return info
    return None
