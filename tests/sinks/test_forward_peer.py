"""Against a server by other hands (npm's @fluent-org/logger): what it says that it got is what the spool had."""

from __future__ import annotations

from pathlib import Path

import pytest
from certificates import SERVER
from forward_peer import ForwardPeer
from lossy_proxy import LossyProxy
from memory_spool import MemoryCursor, MemorySpool, ship_all
from sample_items import AGENT, START_WALL_NS, WINDOW_NS, entries, entry

from excise.spool import Gap, Item
from excise.summary import decode_segments
from excise_agent.config.schema import ForwardConfig, TlsConfig
from excise_agent.sinks import SinkError
from excise_agent.sinks.forward import CHUNK_BYTES, ForwardSink
from excise_agent.sinks.shipper import Shipper

SECURITY = {"serverHostname": "peer", "sharedKey": "correct horse"}


def server_tls(folder: Path, client_ca: bool = False) -> dict[str, str]:
    files = {"key": str(folder / "server.key"), "cert": str(folder / "server.pem")}
    return files | ({"ca": str(folder / "ca.pem")} if client_ca else {})


def config(peer: ForwardPeer, **more: object) -> ForwardConfig:
    return ForwardConfig(address=peer.address, timeout_s=30.0, **more)  # type: ignore[arg-type]


def deliver(settings: ForwardConfig, items: list[Item]) -> None:
    sink = ForwardSink(settings)
    try:
        sink.deliver(AGENT, items)
    finally:
        sink.close()


def test_a_summary_arrives_as_it_is() -> None:
    with ForwardPeer() as peer:
        deliver(config(peer), [entry(7)])
        got = peer.entry()
    event = got["record"]
    end_ns = START_WALL_NS + 8 * WINDOW_NS
    assert got["tag"] == "excise.summary" and got["time"] == list(divmod(end_ns, 10**9))
    assert list(decode_segments(event["summary"])) == [entry(7).summary]
    assert {name: event[name] for name in (
        "schema", "agent", "host", "version", "sequence", "workload", "workload_kind", "start_ns", "end_ns")} == {
        "schema": 1, "agent": AGENT.agent, "host": "gpu-01", "version": "0.2.0", "sequence": 7,
        "workload": "vllm.service", "workload_kind": "unit", "start_ns": end_ns - WINDOW_NS, "end_ns": end_ns}
    assert event["ai_tax_ratio"] == pytest.approx(0.25) and event["ai_tax_se"] == entry(7).summary.ai_tax_se()
    assert (event["observed_s"], event["compute_s"], event["idle_s"], event["cpu_s"]) == (10.0, 3.0, 5.0, 3.1)
    assert event["rss_bytes"] is None and event["throttled_s"] is None, "unknown is not zero"
    assert (event["agent_cpu_s"], event["lost_records"]) == (0.011, 3)


def test_a_gap_is_an_event_too() -> None:
    with ForwardPeer() as peer:
        deliver(config(peer), [Gap(3, 9, "crash"), entry(10)])
        event = peer.entry()["record"]
        assert peer.entry()["record"]["sequence"] == 10
    assert event == {"schema": 1, "agent": AGENT.agent, "host": "gpu-01", "version": "0.2.0", "sequence": 3,
                     "lost": {"first": 3, "last": 9, "reason": "crash"}}


def test_more_than_a_chunk_arrives_in_order() -> None:
    most = 1 + CHUNK_BYTES // 1000
    with ForwardPeer() as peer:
        deliver(config(peer), list(entries(1, most)))
        assert [peer.entry()["record"]["sequence"] for _ in range(most)] == list(range(1, most + 1))


def test_both_sides_show_that_they_know_the_key(key_file: Path) -> None:
    with ForwardPeer(SECURITY) as peer:
        sink = ForwardSink(config(peer, shared_key_file=key_file))
        for sequence in (1, 2):  # the second on the same connection
            sink.deliver(AGENT, [entry(sequence)])
        sink.close()
        assert [peer.entry()["record"]["sequence"] for _ in range(2)] == [1, 2]


def test_a_wrong_key_is_said_and_nothing_is_sent(key_file: Path) -> None:
    with ForwardPeer(SECURITY | {"sharedKey": "another"}) as peer:
        with pytest.raises(SinkError, match=r"refuses us .*compare shared_key_file") as told:
            deliver(config(peer, shared_key_file=key_file), [entry(1)])
        assert told.value.kind == "retry"
        assert peer.kill() == []


def test_a_server_that_wants_a_key_is_not_sent_to_without(key_file: Path) -> None:
    with ForwardPeer(SECURITY) as peer:
        with pytest.raises(SinkError, match="asks for a shared key: set shared_key_file"):
            deliver(config(peer), [entry(1)])
        assert peer.kill() == []


def test_a_user_and_a_password(key_file: Path, tmp_path: Path) -> None:
    users = {"authorize": True, "userDict": {"excise": "s3cret"}}
    with ForwardPeer(SECURITY | users) as peer:
        good, bad = tmp_path / "good", tmp_path / "bad"
        for path, text in ((good, "s3cret\n"), (bad, "wrong\n")):
            path.write_text(text)
            path.chmod(0o640)
        deliver(config(peer, shared_key_file=key_file, user="excise", password_file=good), [entry(1)])
        assert peer.entry()["record"]["sequence"] == 1
        with pytest.raises(SinkError, match="refuses us"):
            deliver(config(peer, shared_key_file=key_file, user="excise", password_file=bad), [entry(2)])
        with pytest.raises(SinkError, match=r"refuses us .* user and password_file"):
            deliver(config(peer, shared_key_file=key_file), [entry(3)])
        assert peer.kill() == []


def test_tls_with_key_and_client_certificate(tls_files: Path, key_file: Path) -> None:
    with ForwardPeer(SECURITY, server_tls(tls_files, client_ca=True)) as peer:
        tls = TlsConfig(True, tls_files / "ca.pem", tls_files / "client.pem", tls_files / "client.key", SERVER)
        sink = ForwardSink(config(peer, shared_key_file=key_file, tls=tls))
        for sequence in (1, 2):
            sink.deliver(AGENT, [entry(sequence)])
        sink.close()
        assert [peer.entry()["record"]["sequence"] for _ in range(2)] == [1, 2]


@pytest.mark.parametrize(("ca", "name", "says"), [
    ("ca.pem", "other.test", "Hostname mismatch"), ("ca.pem", "", "IP address mismatch"),
    ("stranger.pem", SERVER, "unable to get local issuer"),
])
def test_a_server_with_another_name_or_authority_gets_nothing(tls_files: Path, ca: str, name: str, says: str) -> None:
    with ForwardPeer(tls=server_tls(tls_files)) as peer:
        with pytest.raises(SinkError, match=says):
            deliver(config(peer, tls=TlsConfig(True, tls_files / ca, server_name=name)), [entry(1)])
        assert peer.kill() == []


def test_a_client_without_certificate_is_not_heard(tls_files: Path) -> None:
    with ForwardPeer(tls=server_tls(tls_files, client_ca=True)) as peer:
        with pytest.raises(SinkError):
            deliver(config(peer, tls=TlsConfig(True, tls_files / "ca.pem", server_name=SERVER)), [entry(1)])
        assert peer.kill() == []


def test_a_server_that_is_killed_again_and_again_gets_every_window(tmp_path: Path) -> None:
    spool, got = MemorySpool(), []
    peer = ForwardPeer()
    sink = ForwardSink(config(peer))
    ship = Shipper(sink, cursor := MemoryCursor(spool), AGENT, tmp_path / "counts", draw=lambda: 0.0)
    for round_ in range(4):
        spool.append(*entries(1 + 40 * round_, 40 + 40 * round_))
        ship.step()
        got += [peer.entry() for _ in range(ship.state().delivered - len(got))]  # it says "ack" before it tells us
        assert peer.kill() == []
        ship.step()
        peer = ForwardPeer(port=peer.port)
    ship_all(ship, cursor)
    sink.close()
    got += [peer.entry() for _ in range(160 - len(got))]
    peer.close()
    assert [(told["record"]["agent"], told["record"]["sequence"]) for told in got] == [
        (AGENT.agent, sequence) for sequence in range(1, 161)]
    state = ship.state()
    assert (state.delivered, state.lost) == (160, {}) and state.retries >= 4


def test_windows_whose_ack_is_lost_come_again_under_the_same_name(tmp_path: Path) -> None:
    spool = MemorySpool()
    spool.append(*entries(1, 60))
    with ForwardPeer() as peer, LossyProxy(peer.port, lost_answers=3) as proxy:
        sink = ForwardSink(ForwardConfig(address=proxy.address, timeout_s=30.0))
        ship = Shipper(sink, cursor := MemoryCursor(spool), AGENT, tmp_path / "counts", draw=lambda: 0.0)
        ship_all(ship, cursor)
        sink.close()
        got, repeats = {}, 0
        while len(got) < 60:
            record = peer.entry()["record"]
            name = record["agent"], record["sequence"]
            assert got.setdefault(name, record) == record, "it is the same, byte by byte"
            repeats += 1
        assert repeats > 60 and ship.state().delivered == 60
