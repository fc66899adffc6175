"""The agent's side of the control socket: non-blocking, and driven by the daemon's only loop.

    server = ControlServer(path, "excise", {"status": answer})
    select([server, ...], timeout of at most server.timeout_s()); server.turn()

Whatever a client does costs bounded memory and time: MAX_CLIENTS of them, one request each, a deadline for everything
but a stream that is read. See docs/control.md.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import logging
import select
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeAlias

from excise import __version__
from excise.framing import Damaged
from excise_agent.service.control_frames import MAX_REQUEST_BYTES, PROTOCOL, Unframer, pack_frame
from excise_agent.service.control_stream import Refusal, Reply, Request, Stream
from excise_agent.service.peer import Peer, peer_of
from excise_agent.service.socket_file import SocketFile

MAX_CLIENTS: Final = 16
MAX_STREAMS: Final = 4  # each can hold MAX_STREAM_BYTES
REQUEST_S: Final = 5.0  # from connecting to a whole request
REPLY_S: Final = 30.0  # for reading all of the answer, or the rest of a stream that has ended
FULL_S: Final = 1.0  # until the next try, when there are no descriptors left
_READ_BYTES: Final = 64 << 10
_SEND_BYTES: Final = 1 << 20  # of a client and turn

Handler: TypeAlias = Callable[[Request, Peer], Reply | Stream]
_LOG: Final = logging.getLogger(__name__)


class ControlServer:
    """`handlers` by op; may be replaced at any time. A handler answers at once, and may raise Refusal.

    `counts`: "served", "streams", "not_permitted", "busy", and why clients were dropped. Raises SocketError.
    """

    def __init__(
        self, path: Path, group: str, handlers: Mapping[str, Handler], *, version: str = __version__,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.handlers = handlers
        self.counts: Counter[str] = Counter()
        self._clock = clock
        self._group, self._gid = group, _group_id(group)
        if group and self._gid is None:
            _LOG.warning('there is no group "%s" on this host: only root may ask through %s', group, path)
        self._hello = {"excise": version, "protocol": PROTOCOL}
        self._file = SocketFile(path, self._gid)
        self._epoll = select.epoll()
        self._epoll.register(self._file.socket, select.EPOLLIN)
        self._full_until_s: float | None = None
        self._clients: dict[int, _Client] = {}

    def fileno(self) -> int:
        """Readable when a turn is due."""
        return self._epoll.fileno()

    @property
    def clients(self) -> int:
        return len(self._clients)

    def timeout_s(self) -> float | None:
        """Until a turn is due though nothing happens; None: never."""
        due = [c.deadline_s for c in self._clients.values() if c.deadline_s is not None]
        due += [self._full_until_s] if self._full_until_s is not None else []
        return max(0.0, min(due) - self._clock()) if due else None

    def turn(self) -> None:
        """Does what can be done now. Never blocks."""
        now = self._clock()
        if self._full_until_s is not None and now >= self._full_until_s:
            self._full_until_s = None
            self._epoll.modify(self._file.socket, select.EPOLLIN)
        for fd, events in self._epoll.poll(0, 2 * MAX_CLIENTS):
            client = self._clients.get(fd)
            if client is not None:
                self._attend(client, events)
            elif fd == self._file.socket.fileno():
                self._accept()
        for client in list(self._clients.values()):
            if client.deadline_s is not None and now >= client.deadline_s:
                self._drop(client, "too_slow")

    def close(self) -> None:
        """Cuts the clients off and removes the socket."""
        for client in list(self._clients.values()):
            self._drop(client, "agent_stopped")
        self._epoll.close()
        self._file.close()

    def _accept(self) -> None:
        for _ in range(MAX_CLIENTS):
            try:
                connection, _address = self._file.socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._full_until_s = self._clock() + FULL_S  # or the loop would spin
                    self._epoll.modify(self._file.socket, 0)
                    self.counts["no_descriptors"] += 1
                    return
                continue  # this one went away
            connection.setblocking(False)
            self._welcome(connection)

    def _welcome(self, connection: socket.socket) -> None:
        try:
            peer = peer_of(connection)
        except OSError:
            connection.close()
            return
        if not peer.may_ask(self._gid):
            members = f" and the members of group {self._group}" if self._gid is not None else ""
            self._turn_away(connection, "not_permitted", f"only root{members} may ask")
        elif len(self._clients) >= MAX_CLIENTS:
            self._turn_away(connection, "busy", f"{MAX_CLIENTS} others are being served: try again later")
        else:
            client = _Client(connection, peer, self._clock() + REQUEST_S)
            self._clients[connection.fileno()] = client
            self._epoll.register(connection, select.EPOLLIN)
            client.events = select.EPOLLIN
            client.out += pack_frame(self._hello)
            self._send(client)

    def _turn_away(self, connection: socket.socket, code: str, sentence: str) -> None:
        self.counts[code] += 1
        with contextlib.suppress(OSError):  # a new socket has room for it, or its owner is gone
            connection.send(pack_frame({**self._hello, "error": code, "message": sentence}))
        connection.close()

    def _attend(self, client: _Client, events: int) -> None:
        if events & (select.EPOLLHUP | select.EPOLLERR) and not events & select.EPOLLIN:
            self._drop(client, "gone")
            return
        if events & select.EPOLLIN and not self._read(client, gone=bool(events & select.EPOLLHUP)):
            return
        self._send(client)

    def _read(self, client: _Client, gone: bool) -> bool:
        """Whether the client is still there."""
        try:
            data = client.connection.recv(_READ_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            data, gone = b"", True
        if not data and (gone or not client.asked):
            return self._drop(client, "gone" if client.asked or not client.unframer.pending else "half_a_request")
        if not data:  # it sends no more, and still reads
            client.ended = True
            if client.stream is not None:
                client.stream.stop_asked = True
            return True
        if client.asked:
            return self._drop(client, "more_than_a_request")
        try:
            frames = client.unframer.feed(data)
        except Damaged:
            return self._drop(client, "garbage")
        if len(frames) > 1 or (frames and client.unframer.pending):
            return self._drop(client, "more_than_a_request")
        for frame in frames:
            self._answer(client, frame)
        return True

    def _answer(self, client: _Client, frame: Mapping[str, object]) -> None:
        client.asked = True
        client.deadline_s = self._clock() + REPLY_S
        op = frame.get("op")
        try:
            handler = self.handlers.get(op) if isinstance(op, str) else None
            if handler is None or not isinstance(op, str):
                raise Refusal("unknown_op", f"agent {self._hello['excise']} knows {', '.join(sorted(self.handlers))}")
            answer = handler(Request(op, {k: v for k, v in frame.items() if k != "op"}), client.peer)
            if isinstance(answer, Stream):
                self._begin(client, answer)
            else:
                client.out += _packed(answer)
            self.counts["streams" if client.stream else "served"] += 1
        except Refusal as refusal:
            self.counts["refused"] += 1
            client.out += pack_frame({"error": refusal.code, "message": refusal.sentence})

    def _begin(self, client: _Client, stream: Stream) -> None:
        if sum(c.stream is not None for c in self._clients.values()) >= MAX_STREAMS:
            stream.cut("busy")
            raise Refusal("busy", f"{MAX_STREAMS} others are being sent streams: try again later")
        client.out += pack_frame({"stream": dict(stream.header)})
        client.stream = stream
        client.deadline_s = None
        stream.bind(lambda: self._interest(client))

    def _send(self, client: _Client) -> None:
        """As much as the kernel takes, within reason. The rest is due when it takes more."""
        stream, room = client.stream, _SEND_BYTES
        while room > 0:
            piece = client.out or (stream.head() if stream is not None else b"")
            if not piece:
                break
            try:
                sent = client.connection.send(piece)
            except BlockingIOError:
                break
            except OSError:
                self._drop(client, "gone")
                return
            room -= sent
            if client.out:
                del client.out[:sent]
            elif stream is not None:
                stream.advance(sent)
        over = client.asked if stream is None else stream.closed
        if over and not client.out and (stream is None or not stream.unread_bytes):
            self._drop(client, "")
        else:
            self._interest(client)

    def _interest(self, client: _Client) -> None:
        """What to be woken for; a stream that has ended gets a deadline."""
        stream = client.stream
        if stream is not None and stream.closed and client.deadline_s is None:
            client.deadline_s = self._clock() + REPLY_S
        sending = bool(client.out or (stream is not None and stream.unread_bytes))
        reading = not client.ended and (not client.asked or stream is not None)
        events = (select.EPOLLOUT if sending else 0) | (select.EPOLLIN if reading else 0)
        if events != client.events and client.connection.fileno() >= 0:
            client.events = events
            self._epoll.modify(client.connection, events)

    def _drop(self, client: _Client, why: str) -> bool:
        """False. `why`: "" when all is done."""
        fd = client.connection.fileno()
        if self._clients.pop(fd, None) is not None:
            self._epoll.unregister(fd)
            client.connection.close()
            if why:
                self.counts[why] += 1
            if client.stream is not None:
                client.stream.bind(lambda: None)
                client.stream.cut(_REASONS.get(why, "the client misbehaved"))
        return False


_REASONS: Final = {"gone": "the client went away", "too_slow": "the client reads too slowly",
                   "agent_stopped": "the agent stops"}


class _Client:
    def __init__(self, connection: socket.socket, peer: Peer, deadline_s: float) -> None:
        self.connection, self.peer = connection, peer
        self.deadline_s: float | None = deadline_s
        self.unframer = Unframer(MAX_REQUEST_BYTES)
        self.out = bytearray()
        self.stream: Stream | None = None
        self.events = 0
        self.asked = False  # its request was whole
        self.ended = False  # it will send no more


def _packed(answer: Reply) -> bytes:
    try:
        return pack_frame({"reply": dict(answer)})
    except ValueError as error:
        raise Refusal("too_large", f"the answer is too large to be sent: {error}") from error


def _group_id(name: str) -> int | None:
    try:
        return grp.getgrnam(name).gr_gid if name else None
    except KeyError:
        return None
