"""Asks a running agent through its control socket. What goes wrong is a ControlError: one sentence, and the way out."""

from __future__ import annotations

import errno
import grp
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from excise.framing import Damaged
from excise.printable import printable
from excise_agent.service.control_frames import MAX_FRAME_BYTES, PROTOCOL, Unframer, pack_frame

TIMEOUT_S: Final = 10.0
_READ_BYTES: Final = 256 << 10


class ControlError(Exception):
    """The agent could not be asked."""


class NoAgent(ControlError):  # noqa: N818 - each says what is the case
    """Nobody answers."""


class NotPermitted(ControlError):  # noqa: N818
    """This user may not ask."""


class AgentTooOld(ControlError):  # noqa: N818
    """It speaks another protocol, or does not know the question."""


class Refused(ControlError):  # noqa: N818
    """The agent's own sentence; `code` is for programs."""

    def __init__(self, code: str, sentence: str) -> None:
        self.code = code
        super().__init__(sentence)


class StreamEnded(ControlError):  # noqa: N818
    """A stream ended before its end."""


def call(path: Path, op: str, *, timeout_s: float = TIMEOUT_S, **fields: object) -> dict[str, Any]:
    """The reply. Raises ControlError."""
    with _Connection(path, timeout_s) as connection:
        reply = connection.ask(op, fields).get("reply")
        if not isinstance(reply, dict):
            raise ControlError(f"the agent answers {op} with something else than a reply")
        return reply


def stream(path: Path, op: str, *, timeout_s: float = TIMEOUT_S, **fields: object) -> ControlStream:
    """To be iterated, within `with`. Raises ControlError, also while iterated. `timeout_s`: between two chunks."""
    connection = _Connection(path, timeout_s)
    try:
        header = connection.ask(op, fields).get("stream")
        if not isinstance(header, dict):
            raise ControlError(f"the agent answers {op} with something else than a stream")
    except BaseException:
        connection.close()
        raise
    return ControlStream(connection, header)


class ControlStream:
    """The chunks as they were written. `header`: what the agent said before the first."""

    def __init__(self, connection: _Connection, header: dict[str, Any]) -> None:
        self._connection = connection
        self.header = header

    def stop(self) -> None:
        """Asks for the end; what belongs to it still comes."""
        self._connection.end()

    def __iter__(self) -> Iterator[bytes]:
        while True:
            frame = self._connection.frame()
            chunk = frame.get("chunk")
            if isinstance(chunk, bytes):
                yield chunk
            elif frame.get("end") == "":
                return
            else:
                raise StreamEnded(f"the agent ended the stream: {printable(str(frame.get('end', 'no reason given')))}")

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


class _Connection:
    def __init__(self, path: Path, timeout_s: float) -> None:
        self._path, self._timeout_s = path, timeout_s
        self._unframer = Unframer(MAX_FRAME_BYTES)
        self._frames: list[dict[str, Any]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_s)
        try:
            _connect(self._socket, path)
        except OSError as error:
            self._socket.close()
            raise _explained(error, path) from error

    def ask(self, op: str, fields: dict[str, object]) -> dict[str, Any]:
        """The first frame of the answer."""
        request = pack_frame({**fields, "op": op})
        try:
            self._socket.sendall(request)
        except (BrokenPipeError, ConnectionResetError):
            pass  # we were turned away: the reason is there to be read
        except OSError as error:
            raise _explained(error, self._path) from error
        hello = self.frame()
        version = printable(str(hello.get("excise", "unknown")))
        if "error" in hello:
            raise _refusal(hello, self._path, op, version)
        if hello.get("protocol") != PROTOCOL:
            raise AgentTooOld(f"the running agent ({version}) speaks another protocol than this excise: "
                              "sudo systemctl restart excise")
        answer = self.frame()
        if "error" in answer:
            raise _refusal(answer, self._path, op, version)
        return answer

    def frame(self) -> dict[str, Any]:
        while not self._frames:
            try:
                data = self._socket.recv(_READ_BYTES)
            except OSError as error:
                raise _explained(error, self._path) from error
            if not data:
                raise NoAgent("the agent went away before it had answered: sudo systemctl status excise")
            try:
                self._frames += self._unframer.feed(data)
            except Damaged as error:
                raise ControlError(f"what answers at {self._path} is no agent: {error}") from error
        return self._frames.pop(0)

    def end(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                raise _explained(error, self._path) from error

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _connect(connection: socket.socket, path: Path) -> None:
    """By way of the folder: a socket's address has 108 bytes at most."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        connection.connect(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)


def _explained(error: OSError, path: Path) -> ControlError:
    if isinstance(error, PermissionError):
        return NotPermitted(f"not permitted to ask the agent: {_way_in(path)}")
    if isinstance(error, FileNotFoundError | ConnectionRefusedError | NotADirectoryError):
        return NoAgent(f"no agent is running ({path}): sudo systemctl start excise")
    if isinstance(error, TimeoutError | BlockingIOError):
        return NoAgent(f"the agent does not answer ({path}): sudo systemctl status excise")
    return ControlError(f"{path}: {error.strerror or error}")


def _refusal(frame: dict[str, Any], path: Path, op: str, version: str) -> ControlError:
    code, sentence = str(frame["error"]), printable(str(frame.get("message", "")))
    if code == "not_permitted":
        return NotPermitted(f"not permitted to ask the agent: {_way_in(path)}")
    if code == "unknown_op":
        return AgentTooOld(f'the running agent ({version}) does not know "{op}": sudo systemctl restart excise')
    return Refused(code, sentence)


def _way_in(path: Path) -> str:
    """The group whose members may; the folder has it too, where the socket cannot be seen."""
    for place in (path, path.parent):
        try:
            gid = place.stat().st_gid
        except OSError:
            continue
        try:
            name = grp.getgrgid(gid).gr_name if gid else ""
        except KeyError:
            name = str(gid)
        if name:
            return f"use sudo, or join its group (sudo usermod -aG {name} $USER) and log in again"
        break
    return "use sudo"
