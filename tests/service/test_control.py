"""The control socket: an agent and its clients, good and bad. Nothing here waits for time to pass."""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

FOLDER = str(Path(__file__).parent)
if FOLDER not in sys.path:
    sys.path.append(FOLDER)

from agent_loop import Clock, RawClient, looping, serving, turn  # noqa: E402

from excise_agent.service.control_client import (  # noqa: E402
    AgentTooOld,
    ControlError,
    NoAgent,
    Refused,
    StreamEnded,
    call,
    stream,
)
from excise_agent.service.control_frames import MAX_REQUEST_BYTES, pack_frame  # noqa: E402
from excise_agent.service.control_server import (  # noqa: E402
    FULL_S,
    MAX_CLIENTS,
    MAX_STREAMS,
    REPLY_S,
    REQUEST_S,
    ControlServer,
    Handler,
)
from excise_agent.service.control_stream import MAX_STREAM_BYTES, Refusal, Reply, Request, Stream  # noqa: E402
from excise_agent.service.peer import Peer  # noqa: E402

HELLO = {"excise": "9.9", "protocol": 1}


class Agent:
    """What a daemon would have behind the socket."""

    def __init__(self) -> None:
        self.peers: list[Peer] = []
        self.streams: list[Stream] = []
        self.handlers: dict[str, Handler] = {
            "ping": self._ping, "attach": self._attach, "big": lambda *_: {"big": "x" * (4 << 20)},
            "refuse": self._refuse, "too_big": lambda *_: {"big": "x" * (17 << 20)},
        }

    def _ping(self, request: Request, peer: Peer) -> Reply:
        self.peers.append(peer)
        return {"pong": request.whole("number", 0, 100, default=7)}

    def _attach(self, request: Request, _: Peer) -> Stream:
        self.streams.append(Stream({"pid": request.whole("pid", 1, 1 << 22)}))
        self.streams[-1].write(b"first")
        return self.streams[-1]

    def _refuse(self, _request: Request, _peer: Peer) -> Reply:
        raise Refusal("unknown_workload", "no workload is called evil\n\x1b[2J")


@pytest.fixture
def agent() -> Agent:
    return Agent()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "control.sock"


@pytest.fixture
def serve(agent: Agent, path: Path) -> Iterator[tuple[ControlServer, Clock]]:
    with serving(path, agent.handlers) as server:
        yield server


@pytest.fixture
def server(serve: tuple[ControlServer, Clock]) -> ControlServer:
    return serve[0]


@pytest.fixture
def clock(serve: tuple[ControlServer, Clock]) -> Clock:
    return serve[1]


def refusal(client: RawClient) -> str:
    return str(client.frames()[-1].get("error"))


# -- what it is for


def test_a_question_is_answered_and_the_connection_closed(path: Path, server: ControlServer, agent: Agent) -> None:
    client = RawClient(path)
    turn(server)
    client.ask("ping", number=3)
    turn(server)
    assert client.frames() == [HELLO, {"reply": {"pong": 3}}]
    assert client.closed and server.clients == 0 and server.counts == {"served": 1}
    assert (agent.peers[0].pid, agent.peers[0].uid) == (os.getpid(), os.geteuid())
    assert os.getegid() in agent.peers[0].groups


def test_the_client_asks_and_is_told(path: Path, server: ControlServer) -> None:
    with looping(server):
        assert call(path, "ping", number=3) == {"pong": 3}
        assert call(path, "ping") == {"pong": 7}
        assert len(call(path, "big")["big"]) == 4 << 20
        with pytest.raises(Refused, match=r"no workload is called evil\\x0a\\x1b\[2J") as caught:
            call(path, "refuse")
        assert caught.value.code == "unknown_workload"
        with pytest.raises(Refused, match='"number" must be a whole number from 0 to 100'):
            call(path, "ping", number="x")
        with pytest.raises(Refused, match="too large"):
            call(path, "too_big")
        with pytest.raises(AgentTooOld, match=r'the running agent \(9\.9\) does not know "drift": sudo systemctl'):
            call(path, "drift")
        with pytest.raises(ControlError, match="something else than a stream"):
            stream(path, "ping")
        with pytest.raises(ControlError, match="something else than a reply"):
            call(path, "attach", pid=1)


def test_a_question_in_single_bytes_is_answered(path: Path, server: ControlServer) -> None:
    client = RawClient(path)
    for byte in pack_frame({"op": "ping"}):
        client.socket.send(bytes((byte,)))
        turn(server)
    assert client.frames()[-1] == {"reply": {"pong": 7}}


def test_a_client_that_has_said_all_is_still_answered(path: Path, server: ControlServer) -> None:
    client = RawClient(path)
    client.ask("big")
    client.socket.shutdown(1)
    received: list[dict[str, Any]] = []
    while not client.closed:
        turn(server, most=1)
        received += client.frames()
    assert len(received[-1]["reply"]["big"]) == 4 << 20


def test_other_handlers_after_a_reload_and_the_socket_stays(path: Path, server: ControlServer) -> None:
    inode = path.stat().st_ino
    client = RawClient(path)
    turn(server)
    server.handlers = {"ping": lambda *_: {"pong": "new"}}
    client.ask("ping")
    turn(server)
    assert client.frames()[-1] == {"reply": {"pong": "new"}}
    assert path.stat().st_ino == inode


# -- streams


def test_chunks_come_as_they_were_written(path: Path, server: ControlServer, agent: Agent) -> None:
    client = RawClient(path)
    client.ask("attach", pid=42)
    turn(server)
    assert client.frames() == [HELLO, {"stream": {"pid": 42}}, {"chunk": b"first"}]
    assert agent.streams[0].write(b"second")
    turn(server)
    assert agent.streams[0].write(b"") and agent.streams[0].unread_bytes
    agent.streams[0].close()
    assert not agent.streams[0].write(b"late")
    turn(server)
    assert client.frames() == [{"chunk": b"second"}, {"chunk": b""}, {"end": ""}]
    assert client.closed and server.clients == 0 and not agent.streams[0].unread_bytes


def test_a_write_makes_a_turn_due(path: Path, server: ControlServer, agent: Agent) -> None:
    client = RawClient(path)
    client.ask("attach", pid=42)
    turn(server)
    assert not select.select([server], [], [], 0)[0] and server.timeout_s() is None
    agent.streams[0].write(b"x")
    assert select.select([server], [], [], 0)[0]


def test_megabytes_arrive_whole_and_in_order(path: Path, server: ControlServer, agent: Agent) -> None:
    client = RawClient(path)
    client.ask("attach", pid=42)
    turn(server)
    chunks = [bytes((n,)) * 700_001 for n in range(11)]
    assert all(agent.streams[0].write(chunk) for chunk in chunks)
    agent.streams[0].close()
    received: list[dict[str, Any]] = []
    while not client.closed:
        turn(server, most=3)
        received += client.frames()
    assert [f["chunk"] for f in received if "chunk" in f] == [b"first", *chunks]
    assert received[-1] == {"end": ""}


def test_the_client_can_ask_for_the_end_and_gets_the_rest(path: Path, server: ControlServer, agent: Agent) -> None:
    client = RawClient(path)
    client.ask("attach", pid=42)
    turn(server)
    assert not agent.streams[0].stop_asked
    client.socket.shutdown(1)
    turn(server)
    assert agent.streams[0].stop_asked and not agent.streams[0].closed
    assert not select.select([server], [], [], 0)[0]  # the loop does not spin
    agent.streams[0].write(b"the rest")
    agent.streams[0].close()
    turn(server)
    assert client.frames()[-2:] == [{"chunk": b"the rest"}, {"end": ""}]


def test_the_stream_is_told_that_the_client_went_away(path: Path, server: ControlServer, agent: Agent) -> None:
    client = RawClient(path)
    client.ask("attach", pid=42)
    turn(server)
    client.close()
    turn(server)
    assert agent.streams[0].closed and agent.streams[0].reason == "the client went away"
    assert not agent.streams[0].write(b"x") and server.clients == 0


def test_a_client_that_was_killed_went_away(path: Path, server: ControlServer, agent: Agent) -> None:
    program = ("import socket, sys, time; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
               "s.sendall(bytes.fromhex(sys.argv[2])); print(flush=True); time.sleep(600)")
    child = subprocess.Popen(
        [sys.executable, "-S", "-c", program, path.name, pack_frame({"op": "attach", "pid": 1}).hex()],
        stdout=subprocess.PIPE, cwd=path.parent)
    assert child.stdout is not None
    child.stdout.readline()
    turn(server)
    assert not agent.streams[0].closed
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    turn(server)
    assert agent.streams[0].reason == "the client went away"


def test_a_stream_whose_client_does_not_read_is_ended_and_says_why(
    path: Path, server: ControlServer, agent: Agent, clock: Clock
) -> None:
    client = RawClient(path)
    client.ask("attach", pid=42)
    turn(server)
    written = 0
    while agent.streams[0].write(b"x" * 100_000):
        written += 1
        assert agent.streams[0].unread_bytes <= MAX_STREAM_BYTES
        turn(server, most=2)
    assert written * 100_000 > MAX_STREAM_BYTES * 0.9
    assert agent.streams[0].reason == "the client reads too slowly" and agent.streams[0].unread_bytes < 200_000
    received: list[dict[str, Any]] = []
    while not client.closed:
        received += client.frames()
        turn(server, most=2)
    assert received[-1] == {"end": "the client reads too slowly"}
    assert all(frame["chunk"] == b"x" * 100_000 for frame in received[3:-1])


def test_one_that_never_reads_is_dropped_after_its_stream_has_ended(
    path: Path, server: ControlServer, agent: Agent, clock: Clock
) -> None:
    client = RawClient(path)
    client.ask("attach", pid=42)
    turn(server)
    while agent.streams[0].write(b"x" * 100_000):
        turn(server, most=2)
    clock.now += REPLY_S
    assert server.timeout_s() == 0
    turn(server)
    assert server.clients == 0 and server.counts["too_slow"] == 1
    client.close()


def test_a_chunk_that_is_too_large_ends_the_stream(agent: Agent) -> None:
    one = Stream()
    assert not one.write(b"x" * (MAX_STREAM_BYTES + 1)) and one.closed


def test_streams_are_few(path: Path, server: ControlServer, agent: Agent) -> None:
    clients = [RawClient(path) for _ in range(MAX_STREAMS + 1)]
    for client in clients:
        client.ask("attach", pid=1)
        turn(server)
    assert refusal(clients[-1]) == "busy"
    assert [s.closed for s in agent.streams] == [False] * MAX_STREAMS + [True]
    clients[0].close()
    turn(server)
    again = RawClient(path)
    again.ask("attach", pid=1)
    turn(server)
    assert again.frames()[1] == {"stream": {"pid": 1}}


def test_the_client_iterates_and_stops(path: Path, server: ControlServer, agent: Agent) -> None:
    def end_those_that_ask() -> None:
        for one in agent.streams:
            if one.stop_asked and one.write(b"the rest"):
                one.close()

    with looping(server, end_those_that_ask), stream(path, "attach", pid=42) as chunks:
        assert chunks.header == {"pid": 42}
        received = iter(chunks)
        assert next(received) == b"first"
        chunks.stop()
        assert list(received) == [b"the rest"]


def test_a_stream_that_was_cut_is_not_taken_for_whole(path: Path, server: ControlServer) -> None:
    def cut(*_: object) -> Stream:
        one = Stream()
        one.write(b"part")
        one.close("the watch failed\n")
        return one

    server.handlers = {"attach": cut}
    received = []
    with looping(server), stream(path, "attach") as chunks, pytest.raises(StreamEnded, match=r"the watch failed\\x0a"):
        for chunk in chunks:
            received.append(chunk)
    assert received == [b"part"]


def test_an_agent_that_stops_in_the_middle_is_said_to(path: Path, agent: Agent) -> None:
    with serving(path, agent.handlers) as (server, _), looping(server):
        chunks = iter(one := stream(path, "attach", pid=1))
        assert next(chunks) == b"first"
    with pytest.raises(NoAgent, match="went away"):
        next(chunks)
    one.close()
    assert agent.streams[0].reason == "the agent stops"
    with pytest.raises(NoAgent, match=r"no agent is running .*: sudo systemctl start excise"):
        call(path, "ping")


# -- clients that are broken, slow or hostile


def test_half_a_request_is_dropped(path: Path, server: ControlServer) -> None:
    client = RawClient(path)
    client.socket.send(pack_frame({"op": "ping"})[:-1])
    turn(server)
    client.close()
    turn(server)
    assert server.clients == 0 and server.counts == {"half_a_request": 1}


@pytest.mark.parametrize("sent", [b"", b"\0", b"\0\0\0\x0e\x81"])
def test_one_that_never_says_what_it_wants_is_dropped_in_time(
    path: Path, server: ControlServer, clock: Clock, sent: bytes
) -> None:
    client = RawClient(path)
    client.socket.send(sent)
    turn(server)
    assert server.timeout_s() == REQUEST_S
    clock.now += REQUEST_S / 2
    client.socket.send(b"\0" if sent else b"")  # a byte now and then gains it nothing
    turn(server)
    assert server.clients == 1 and server.timeout_s() == REQUEST_S / 2
    clock.now += REQUEST_S / 2
    turn(server)
    assert server.clients == 0 and server.counts == {"too_slow": 1}


def test_one_that_never_reads_its_answer_is_dropped_in_time(path: Path, server: ControlServer, clock: Clock) -> None:
    client = RawClient(path)
    client.ask("big")
    turn(server)
    assert not select.select([server], [], [], 0)[0]  # the loop does not spin
    clock.now += REPLY_S
    turn(server)
    assert server.clients == 0 and server.counts == {"served": 1, "too_slow": 1}
    client.close()


@pytest.mark.parametrize("sent", [
    b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\0", b"\xff\xff\xff\xff", (MAX_REQUEST_BYTES + 1).to_bytes(4, "big"),
    b"\0\0\0\x01\xc1", b"\0\0\0\x01\x90", b"\0\0\0\x01\xa0", b"\0\0\0\x03\x81\x01\x02",
    b"\0\0\x40\x00" + b"\x91" * 0x4000, b"\0\0\0\x05\xdd\xff\xff\xff\xff", b"\0\0\0\x06\x81\xa2op\xd4\x01",
])
def test_garbage_is_dropped(path: Path, server: ControlServer, sent: bytes) -> None:
    client = RawClient(path)
    client.socket.send(sent)
    turn(server)
    client.frames()
    assert client.closed and server.clients == 0 and server.counts == {"garbage": 1}


@pytest.mark.parametrize("op", [None, 5, [], {"x": 1}, "", "nothing", b"ping", "__class__"])
def test_an_op_that_is_none_is_refused(path: Path, server: ControlServer, op: object) -> None:
    client = RawClient(path)
    client.ask(op)
    turn(server)
    assert client.frames()[-1] == {
        "error": "unknown_op", "message": "agent 9.9 knows attach, big, ping, refuse, too_big"}


@pytest.mark.parametrize("then", [b"x", pack_frame({"op": "ping"})])
def test_more_than_a_request_is_dropped(path: Path, server: ControlServer, agent: Agent, then: bytes) -> None:
    at_once, later = RawClient(path), RawClient(path)
    at_once.socket.send(pack_frame({"op": "ping"}) + then)
    later.ask("attach", pid=1)
    turn(server)
    later.socket.send(then)
    turn(server)
    assert server.clients == 0 and server.counts["more_than_a_request"] == 2
    assert agent.streams[0].reason == "the client misbehaved"


def test_too_many_are_told_to_come_later(path: Path, server: ControlServer) -> None:
    clients = []
    for _ in range(MAX_CLIENTS + 3):
        clients.append(RawClient(path))
        turn(server)
    assert server.clients == MAX_CLIENTS
    for client in clients[MAX_CLIENTS:]:
        assert refusal(client) == "busy" and client.closed
    clients[0].ask("ping")
    turn(server)
    assert clients[0].frames()[-1] == {"reply": {"pong": 7}}
    late = RawClient(path)
    late.ask("ping")
    turn(server)
    assert late.frames()[-1] == {"reply": {"pong": 7}}


def test_without_descriptors_it_waits_and_does_not_spin(path: Path, server: ControlServer, clock: Clock) -> None:
    client = RawClient(path)
    client.ask("ping")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare = os.open("/dev/null", os.O_RDONLY)
    os.close(spare)
    resource.setrlimit(resource.RLIMIT_NOFILE, (spare, hard))
    try:
        server.turn()
        assert server.counts == {"no_descriptors": 1}
        assert server.timeout_s() == FULL_S
        server.turn()
        assert server.counts == {"no_descriptors": 1}
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    clock.now += FULL_S
    turn(server)
    assert client.frames()[-1] == {"reply": {"pong": 7}}


def test_nothing_is_left_of_clients_that_came_and_went(path: Path, server: ControlServer, clock: Clock) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for number in range(300):
        client = RawClient(path)
        turn(server)
        sent = (pack_frame({"op": "ping"}), pack_frame({"op": "attach", "pid": 1}), b"\0\0", b"junk", b"")[number % 5]
        client.socket.send(sent)
        turn(server)
        client.close()
        turn(server)
    assert server.clients == 0 and len(os.listdir("/proc/self/fd")) == before
    assert not server._clients


PIECES = st.lists(st.one_of(
    st.binary(max_size=40),
    st.sampled_from([pack_frame({"op": "ping"}), pack_frame({"op": "attach", "pid": 3}), pack_frame({"op": 1})]),
    st.recursive(st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=5),
                 lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
                 max_leaves=6).map(lambda value: (b := msgpack.packb(value)) and len(b).to_bytes(4, "big") + b),
), max_size=5)


@given(PIECES, st.booleans())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_whatever_harm_the_agent_or_its_other_clients(
    path: Path, server: ControlServer, clock: Clock, pieces: list[bytes], goes: bool
) -> None:
    bad, good = RawClient(path), RawClient(path)
    for piece in pieces:
        try:
            bad.socket.send(piece)
        except OSError:
            break
        turn(server)
    if goes:
        bad.close()
    good.ask("ping", number=9)
    turn(server)
    assert good.frames() == [HELLO, {"reply": {"pong": 9}}]
    clock.now += REQUEST_S + REPLY_S
    bad.close()
    turn(server)
    assert server.clients == 0
    good.close()


def test_the_client_survives_what_is_no_agent(path: Path) -> None:
    path.parent.mkdir()
    for said in (b"HTTP/1.1 400 Bad Request\r\n\r\n", pack_frame({"a": 1}), pack_frame({**HELLO, "protocol": 2}), b""):
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as listening:
            os.chdir(path.parent)
            listening.bind(path.name)
            os.chdir("/")
            listening.listen()

            def answer(listening: socket.socket = listening, said: bytes = said) -> None:
                connection, _ = listening.accept()
                connection.sendall(said)
                connection.close()

            thread = threading.Thread(target=answer)
            thread.start()
            with pytest.raises(ControlError) as caught:
                call(path, "ping")
            thread.join()
            assert str(caught.value).isprintable()
