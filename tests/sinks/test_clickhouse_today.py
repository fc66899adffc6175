"""The same schema, rows and query in today's engine (chdb, in this process): Debian's is from 2018."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from chdb.session import Session
from clickhouse_server import SCHEMA
from sample_items import AGENT, VLLM, entry

from excise.spool import Gap
from excise_agent.sinks.clickhouse import _body
from excise_agent.sinks.rows import TABLES, Row, rows_of


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    session = Session(str(tmp_path_factory.mktemp("chdb")))
    for statement in statements((SCHEMA / "schema.sql").read_text()):
        session.query(statement)
    yield session
    session.close()


def statements(text: str) -> list[str]:
    bare = re.sub(r"--.*", "", text)
    return [statement for statement in bare.split(";") if statement.strip()]


def insert(engine: Session, folder: Path, rows: dict[str, list[Row]]) -> None:
    """The very bytes that the sink posts."""
    for table in TABLES:
        path = folder / f"{table}.json.gz"
        path.write_bytes(_body(rows[table]))
        names = ", ".join(f"`{name}`" for name in rows[table][0])
        engine.query(f"INSERT INTO excise.{table} ({names}) SETTINGS input_format_skip_unknown_fields = 1 "
                     f"SELECT {names} FROM file('{path}', 'JSONEachRow', auto, 'gzip')")


def asked(engine: Session, query: str) -> list[dict[str, object]]:
    told = str(engine.query(query.rstrip(), "JSONEachRow"))
    return [json.loads(line) for line in told.splitlines()]


def test_rows_that_came_twice_count_once_in_the_worst_tax(engine: Session, tmp_path: Path) -> None:
    recent = time.time_ns() - 600 * 10**9
    for host in ("gpu-01", "gpu-02", "gpu-02"):
        items = [*(entry(n, VLLM, recent) for n in (1, 2, 3)), Gap(4, 9, "crash")]
        insert(engine, tmp_path, rows_of(replace(AGENT, agent=host, host=host), items, stacks=True))
    assert asked(engine, (SCHEMA / "worst_tax.sql").read_text()) == [
        {"workload": "vllm.service", "workload_kind": "unit", "hosts": 2, "windows": 6, "tax_ratio": 0.25,
         "tax_ratio_se": 0.0723, "tax_seconds": 6, "worst_stage": "preprocess"}]
    assert asked(engine, (SCHEMA / "lost.sql").read_text()) == [
        {"host": host, "agent": host, "reason": "crash", "windows": 6} for host in ("gpu-01", "gpu-02")]
    assert asked(engine, "SELECT sum(ns) AS ns FROM excise.stages FINAL WHERE stage = 'compute'") == [
        {"ns": 6 * 3 * 10**9}]
    assert asked(engine, "SELECT any(frames.name) AS name, count() AS count FROM excise.stacks FINAL") == [
        {"name": ["Resize.run"], "count": 6}]
    assert asked(engine, "SELECT count() AS count FROM excise.windows WHERE isNull(rss_bytes)") == [{"count": 9}]
