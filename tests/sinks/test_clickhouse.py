"""Against Debian's real clickhouse-server: old, and so the strictest that is still in use."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from clickhouse_server import SCHEMA, ClickHouseServer
from lossy_proxy import LossyProxy
from memory_spool import MemoryCursor, MemorySpool, ship_all
from sample_items import AGENT, START_WALL_NS, VLLM, WINDOW_NS, entries, entry

from excise.names import STAGES
from excise.spool import Entry, Gap
from excise.summary import Cell, CellKey, Summary
from excise.workload import Workload
from excise_agent.config.schema import ClickHouseConfig
from excise_agent.sinks import SinkError
from excise_agent.sinks.clickhouse import ClickHouseSink
from excise_agent.sinks.rows import TABLES, rows_of
from excise_agent.sinks.shipper import Shipper

VARIANCE_US2 = next(cell.variance_us2 or 0 for key, cell in entry(1).summary.cells.items() if key.cls == "compute.cpu")
WORST_TAX = (SCHEMA / "worst_tax.sql").read_text()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseServer]:
    server = ClickHouseServer(tmp_path_factory.mktemp("clickhouse"))
    yield server
    server.stop()


@pytest.fixture
def server(running: ClickHouseServer) -> ClickHouseServer:
    """With the schema, and nothing in it."""
    running.client("DROP DATABASE IF EXISTS excise;" + (SCHEMA / "schema.sql").read_text())
    return running


def config(server: ClickHouseServer, **more: object) -> ClickHouseConfig:
    return ClickHouseConfig(url=server.url, password_file=server.password_file, timeout_s=60.0,
                            **more)  # type: ignore[arg-type]


def columns(text: str) -> dict[str, list[str]]:
    """Of schema.sql: table -> columns that are inserted, a nested one as its parts."""
    out: dict[str, list[str]] = {}
    for table, body in re.findall(r"CREATE TABLE IF NOT EXISTS excise\.(\w+) \((.*?)\n\) ENGINE", text, re.S):
        names = out[table] = []
        for name, kind in re.findall(r"^    (\w+) (.+)$", re.sub(r"\s*--.*", "", body), re.M):
            nested = re.match(r"Nested \((.*)\)", kind)
            if "MATERIALIZED" not in kind:
                names += [f"{name}.{part.split()[0]}" for part in nested[1].split(", ")] if nested else [name]
    return out


def test_the_schema_has_a_column_for_each_value_and_no_other() -> None:
    rows = rows_of(AGENT, [entry(1), Gap(2, 2, "aged")], stacks=True)
    assert {table: sorted(rows[table][0]) for table in TABLES} == {
        table: sorted(names) for table, names in columns((SCHEMA / "schema.sql").read_text()).items()}


def test_the_schema_may_be_applied_again(server: ClickHouseServer) -> None:
    server.client((SCHEMA / "schema.sql").read_text())


def test_a_window_arrives_with_all_its_numbers(server: ClickHouseServer) -> None:
    sink = ClickHouseSink(config(server, stacks=True))
    sink.deliver(AGENT, [entry(7), Gap(8, 9, "crash")])
    sink.close()
    start = START_WALL_NS + 7 * WINDOW_NS
    se = entry(7).summary.ai_tax_se()
    assert server.rows("SELECT agent, sequence, host, workload, workload_kind, start_ns, toUnixTimestamp(start), "
                       "processes, comms, busy_ns, compute_ns, preprocess_ns, idle_ns, ai_tax_ratio, rss_bytes, "
                       f"agent_ns, lost.name, lost.count, abs(ai_tax_se - {se}) < 1e-12 FROM excise.windows") == [[
        AGENT.agent, "7", "gpu-01", "vllm.service", "unit", str(start), str(start // 10**9), "2", "['vllm']",
        "3999999986", "3000000000", "999999986", "5000000000", str(1 - 3e9 / 3999999986), r"\N", "10000000",
        "['ring_full']", "[3]", "1"]]
    assert server.rows("SELECT class, stage, state, ns, variance_us2 FROM excise.stages ORDER BY class") == [
        ["compute.cpu", "compute", "running_user", "3000000000", str(2 * VARIANCE_US2)],
        ["idle", "idle", "net", "5000000000", "0"],
        ["preprocess", "preprocess", "gil", "999999986", "0"]]
    assert server.rows("SELECT stage, ns, count, frames.name, frames.line FROM excise.stacks") == [
        ["preprocess", "200000000", "4", "['Resize.run']", "[30]"]]
    assert server.rows("SELECT agent, first, last, reason FROM excise.gaps") == [[AGENT.agent, "8", "9", "crash"]]


def test_stacks_stay_at_home_unless_asked_for(server: ClickHouseServer) -> None:
    sink = ClickHouseSink(config(server))
    sink.deliver(AGENT, [entry(1)])
    sink.close()
    assert server.rows("SELECT count() FROM excise.stacks") == [["0"]]


def test_windows_whose_answer_is_lost_are_counted_once(server: ClickHouseServer, tmp_path: Path) -> None:
    spool = MemorySpool()
    spool.append(*entries(1, 50), Gap(51, 60, "crash"), *entries(61, 70))
    with LossyProxy(server.http, lost_answers=4) as proxy:
        sink = ClickHouseSink(replace(config(server), url=f"http://{proxy.address}"))
        ship = Shipper(sink, cursor := MemoryCursor(spool), AGENT, tmp_path / "counts", draw=lambda: 0.0)
        ship_all(ship, cursor)
        sink.close()
    assert ship.state().retries == 4 and ship.state().delivered == 60 and ship.state().lost == {"crash": 10}
    assert int(server.rows("SELECT count() FROM excise.stages")[0][0]) > 180, "some came twice"
    assert server.rows("SELECT count(), uniqExact(agent, sequence), sum(compute_ns) FROM excise.windows FINAL") == [
        ["60", "60", str(60 * 3 * 10**9)]]
    assert server.rows("SELECT count(), sum(ns) FROM excise.stages FINAL WHERE stage = 'compute'") == [
        ["60", str(60 * 3 * 10**9)]]
    assert server.rows((SCHEMA / "lost.sql").read_text()) == [["gpu-01", AGENT.agent, "crash", "10"]]


def test_a_gap_that_has_grown_is_counted_once(server: ClickHouseServer) -> None:
    sink = ClickHouseSink(config(server))
    for last in (9, 20, 20):
        sink.deliver(AGENT, [Gap(5, last, "aged")])
    sink.close()
    assert server.rows((SCHEMA / "lost.sql").read_text()) == [["gpu-01", AGENT.agent, "aged", "16"]]


def test_a_server_that_is_killed_and_comes_back_gets_every_window(server: ClickHouseServer, tmp_path: Path) -> None:
    spool = MemorySpool()
    sink = ClickHouseSink(config(server))
    ship = Shipper(sink, cursor := MemoryCursor(spool), AGENT, tmp_path / "counts", draw=lambda: 0.0)
    spool.append(*entries(1, 10))
    ship.step()
    server.stop()
    spool.append(*entries(11, 40))
    for _ in range(8):
        ship.step()
    assert ship.state().failures == 8 and ship.state().lost == {}
    server.start()
    ship_all(ship, cursor)
    sink.close()
    assert server.rows("SELECT count(), uniqExact(sequence) FROM excise.windows FINAL") == [["40", "40"]]
    assert ship.state().delivered == 40


def test_what_the_server_cannot_parse_is_dropped_and_the_rest_arrives(server: ClickHouseServer, tmp_path: Path) -> None:
    """A server's own no: the column is narrower than the value."""
    server.client("DROP TABLE excise.windows; " + re.sub(
        r"workload_kind String,.*", "workload_kind Enum8('unit' = 1),", (SCHEMA / "schema.sql").read_text(), count=1))
    spool = MemorySpool()
    spool.append(*entries(1, 9), entry(10, Workload("x", "process")), *entries(11, 20))
    sink = ClickHouseSink(config(server))
    ship = Shipper(sink, cursor := MemoryCursor(spool), AGENT, tmp_path / "counts", draw=lambda: 0.0)
    ship_all(ship, cursor)
    sink.close()
    assert ship.state().lost == {"rejected": 1} and ship.state().delivered == 19
    assert "rejected 10: table windows: status" in (ship.state().last_error or "")
    assert server.rows("SELECT count(), countIf(sequence = 10) FROM excise.windows FINAL") == [["19", "0"]]
    assert server.rows("SELECT first, last, reason FROM excise.gaps") == [["10", "10", "rejected"]]


@pytest.mark.parametrize("drop", ["DROP TABLE excise.windows", "DROP DATABASE excise"])
def test_a_schema_that_is_not_there_loses_nothing(server: ClickHouseServer, tmp_path: Path, drop: str) -> None:
    server.client(drop)
    spool = MemorySpool()
    spool.append(*entries(1, 5))
    sink = ClickHouseSink(config(server))
    ship = Shipper(sink, cursor := MemoryCursor(spool), AGENT, tmp_path / "counts", draw=lambda: 0.0)
    for _ in range(9):
        ship.step()
    assert "doesn't exist" in (ship.state().last_error or "") and ship.state().lost == {}
    server.client((SCHEMA / "schema.sql").read_text())
    ship_all(ship, cursor)
    sink.close()
    assert server.rows("SELECT count() FROM excise.windows FINAL") == [["5"]]


def test_a_wrong_password_is_said_and_is_no_reason_to_drop(server: ClickHouseServer, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("wrong")
    wrong.chmod(0o600)
    sink = ClickHouseSink(replace(config(server), password_file=wrong))
    with pytest.raises(SinkError, match="Wrong password") as error:
        sink.deliver(AGENT, [entry(1)])
    sink.close()
    assert error.value.kind == "retry" and "wrong'" not in str(error.value)


@pytest.mark.parametrize("ns", [1 << 63, 1 << 64, 1 << 100])
def test_a_number_that_does_not_fit_a_column_is_rejected_and_not_another_number(server: ClickHouseServer,
                                                                                 ns: int) -> None:
    summary = entry(1).summary
    key = next(key for key in summary.cells if key.cls == "idle")
    big = replace(summary, cells={**summary.cells, CellKey(*key): Cell(ns)})
    sink = ClickHouseSink(config(server))
    with pytest.raises(SinkError, match="does not fit a column") as error:
        sink.deliver(AGENT, [Entry(1, VLLM, big)])
    assert error.value.kind == "rejected"
    with pytest.raises(SinkError, match="no time span"):
        sink.deliver(AGENT, [Entry(1, VLLM, Summary())])
    sink.close()


def test_names_that_would_break_a_query_are_only_names(server: ClickHouseServer) -> None:
    names = ["'; DROP TABLE excise.windows; --", 'a"b\\c', "tab\tline\nnull\0", "größe \U0001f680", "\ud800", "",
             "NULL"]
    sink = ClickHouseSink(config(server))
    sink.deliver(AGENT, [entry(n, Workload(name, "rule")) for n, name in enumerate(names, 1)])
    sink.close()
    got = server.rows("SELECT hex(workload) FROM excise.windows ORDER BY sequence")
    assert [bytes.fromhex(row[0]).decode() if row[0] else "" for row in got] == [
        name.encode("utf-8", "replace").decode() for name in names]


def tax_query(server: ClickHouseServer) -> list[dict[str, str]]:
    lines = server.client(WORST_TAX.rstrip() + " FORMAT TSVWithNames").splitlines()
    head, *rows = [line.split("\t") for line in lines]
    return [dict(zip(head, row, strict=True)) for row in rows]


def test_worst_tax_by_service(server: ClickHouseServer) -> None:
    """Two hosts of one service, another one, and a window of yesterday that is not asked for."""
    now = time.time_ns()
    recent = now - 600 * 10**9
    sink = ClickHouseSink(config(server))
    for host in ("gpu-01", "gpu-02", "gpu-02"):  # that one's windows come twice
        sink.deliver(replace(AGENT, agent=host, host=host), [entry(n, VLLM, recent) for n in (1, 2, 3)])
    sink.deliver(AGENT, [entry(9, Workload("small.service", "unit"), recent),
                         entry(10, VLLM, now - 90_000 * 10**9)])
    sink.close()
    rows = tax_query(server)
    tax_ns = 2 * sum(10**9 - 2 * n for n in (1, 2, 3))
    busy_ns = tax_ns + 6 * 3 * 10**9
    error = entry(1).summary.tax_error
    assert error is not None
    compute, error_us2 = 6 * 3 * 10**9 / busy_ns, 6 * error.compute_us2
    se = (1 - compute) * error_us2 ** 0.5 * 1000 / busy_ns
    assert rows == [
        {"workload": "vllm.service", "workload_kind": "unit", "hosts": "2", "windows": "6",
         "tax_ratio": f"{1 - compute:.4g}", "tax_ratio_se": f"{se:.4f}".rstrip("0"), "tax_seconds": "6",
         "worst_stage": "preprocess"},
        rows[1]]
    assert rows[1]["workload"] == "small.service" and rows[1]["windows"] == "1" and rows[1]["tax_seconds"] == "1"


def test_the_query_knows_every_stage_that_is_tax() -> None:
    taxes, names = re.findall(r"\[(.*?)\] AS taxes", WORST_TAX, re.S)
    assert re.findall(r"'(\w+)'", names) == re.findall(r"sum\((\w+)_ns\)", taxes) == [
        stage for stage in STAGES if stage not in ("compute", "idle", "handoff")]
