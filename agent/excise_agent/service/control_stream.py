"""A request, and what can be answered: a map, a refusal, or a stream."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from excise_agent.service.control_frames import pack_frame

MAX_STREAM_BYTES: Final = 8 << 20  # not yet read by the client; a second of a busy server is 20 KB

Reply: TypeAlias = Mapping[str, object]


class Refusal(Exception):  # noqa: N818 - an answer, and no failure of ours
    """`code` is for programs ("bad_request", "unknown_workload"), the sentence for people."""

    def __init__(self, code: str, sentence: str) -> None:
        self.code, self.sentence = code, sentence
        super().__init__(sentence)


@dataclass(frozen=True, slots=True)
class Request:
    """`fields` come from a client and are of any type: read them with the methods."""

    op: str
    fields: Mapping[str, Any] = field(default_factory=dict)

    def text(self, name: str, default: str | None = None, most: int = 256) -> str:
        """Raises Refusal."""
        value = self.fields.get(name, default)
        if not isinstance(value, str) or len(value) > most:
            raise Refusal("bad_request", f'"{name}" must be a text of at most {most} characters')
        return value

    def whole(self, name: str, least: int, most: int, default: int | None = None) -> int:
        """Raises Refusal."""
        value = self.fields.get(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise Refusal("bad_request", f'"{name}" must be a whole number from {least} to {most}')
        return value

    def number(self, name: str, least: float, most: float, default: float | None = None) -> float:
        """Raises Refusal."""
        value = self.fields.get(name, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
            raise Refusal("bad_request", f'"{name}" must be a number from {least:g} to {most:g}')
        return float(value)

    def flag(self, name: str, default: bool = False) -> bool:
        """Raises Refusal."""
        value = self.fields.get(name, default)
        if not isinstance(value, bool):
            raise Refusal("bad_request", f'"{name}" must be true or false')
        return value


class Stream:
    """Chunks for a client, for as long as it takes. Whoever made it writes, looks at `closed`, and closes it.

    `closed`: nothing more is taken; `reason` says why, "" when it ended well. `stop_asked`: the client wants no more
    than what belongs to the end.
    """

    def __init__(self, header: Mapping[str, object] | None = None, limit: int = MAX_STREAM_BYTES) -> None:
        self.header: Mapping[str, object] = dict(header or {})
        self.closed = False
        self.reason = ""
        self.stop_asked = False
        self._limit = limit
        self._frames: deque[bytes] = deque()
        self._offset = 0  # of the first frame: what the kernel has taken of it
        self._bytes = 0
        self._wake: Callable[[], None] = lambda: None

    @property
    def unread_bytes(self) -> int:
        """Written, and not yet with the kernel."""
        return self._bytes

    def write(self, chunk: bytes) -> bool:
        """Whether it was taken. A client that does not keep up is told so, and the stream is closed."""
        if self.closed:
            return False
        frame = pack_frame({"chunk": chunk}) if len(chunk) <= self._limit else b""
        if not frame or self._bytes + len(frame) > self._limit:
            self._forget(but_begun=True)
            self.close("the client reads too slowly")
            return False
        self._put(frame)
        return True

    def close(self, reason: str = "") -> None:
        """What was written is still delivered."""
        if not self.closed:
            self.closed, self.reason = True, reason
            self._put(pack_frame({"end": reason}))

    # -- the server's side

    def bind(self, wake: Callable[[], None]) -> None:
        """`wake` is called when there is something to be sent."""
        self._wake = wake

    def head(self) -> memoryview:
        """What is to be sent next; empty when there is nothing now."""
        return memoryview(self._frames[0])[self._offset :] if self._frames else memoryview(b"")

    def advance(self, sent: int) -> None:
        """So many bytes of the head are with the kernel."""
        self._offset += sent
        self._bytes -= sent
        if self._offset == len(self._frames[0]):
            self._frames.popleft()
            self._offset = 0

    def cut(self, reason: str) -> None:
        """The client is gone."""
        self._forget(but_begun=False)
        if not self.closed:
            self.closed, self.reason = True, reason

    def _forget(self, but_begun: bool) -> None:
        """`but_begun`: a frame of which a part is sent stays, or the client could not read what follows."""
        begun = [self._frames[0]] if but_begun and self._offset else []
        self._frames = deque(begun)
        self._offset = self._offset if begun else 0
        self._bytes = sum(map(len, begun)) - self._offset

    def _put(self, frame: bytes) -> None:
        self._frames.append(frame)
        self._bytes += len(frame)
        self._wake()
