"""ClickHouse over HTTP: rows for the fleet, in the tables of packaging/clickhouse/schema.sql."""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote, urlsplit

from excise.spool import Item
from excise_agent.config.schema import ClickHouseConfig, TlsConfig
from excise_agent.sinks.connection import Connection, tls_context
from excise_agent.sinks.deadline import Deadline
from excise_agent.sinks.http_post import Answer, post
from excise_agent.sinks.rows import TABLES, Row, rows_of
from excise_agent.sinks.secret import read_secret
from excise_agent.sinks.sink import AgentInfo, Kind, SinkError

DATA_CODES: Final = frozenset({
    6, 26, 27, 33, 36, 38, 41, 49, 53, 69, 70, 72, 117, 130, 131, 190, 349, 407, 436, 691,
})
"""Codes of exceptions that rows may be to blame for: they cannot be parsed or do not fit their columns. 18.16 sends
them with status 500. The shipper drops none of them unless the server takes others."""
DATA_STATUSES: Final = frozenset({400, 413, 422})
_CODE = re.compile(rb"Code: ([0-9]{1,6})")


class ClickHouseSink:
    """ValueError for a configuration that cannot work: the password's file, the URL."""

    pause_s = 20.0  # each insert is a part on disk, which the server has to merge

    def __init__(self, config: ClickHouseConfig) -> None:
        self.name = config.name
        self._config = config
        self._host, self._port, self._netloc, tls = _split_url(config)
        self._context = tls_context(tls)
        password = read_secret(config.password_file, "password_file") if config.password_file else b""
        self._headers = {"Content-Type": "application/x-ndjson", "Content-Encoding": "gzip", "User-Agent": "excise",
                         "X-ClickHouse-User": config.user, "X-ClickHouse-Key": password.decode("latin-1")}
        if any(not value.isprintable() or not value.isascii() for value in self._headers.values()):
            raise ValueError("user, password_file: HTTP carries printable ASCII only")
        self._interrupted = threading.Event()
        self._connection: Connection | None = None

    def deliver(self, agent: AgentInfo, items: Sequence[Item]) -> None:
        try:
            tables = rows_of(agent, items, self._config.stacks)
            bodies = [(table, _body(tables[table])) for table in TABLES if tables[table]]
        except ValueError as error:
            raise SinkError(f"cannot be sent: {error}", "rejected") from error
        until = Deadline(self._config.timeout_s, self._interrupted)
        for table, body in bodies:
            self._insert(table, body, until)

    def interrupt(self) -> None:
        self._interrupted.set()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _insert(self, table: str, body: bytes, until: Deadline) -> None:
        query = f"INSERT INTO {table} FORMAT JSONEachRow"
        target = (f"/?database={quote(self._config.database, safe='')}&query={quote(query)}"
                  "&input_format_skip_unknown_fields=1")  # so that a new agent can send to a schema of yesterday
        try:
            connection = self._connected(until)
            answer = post(connection, self._netloc, target, self._headers, body)
        except BaseException:
            self.close()
            raise
        if not answer.reusable:
            self.close()
        _check(answer, table)

    def _connected(self, until: Deadline) -> Connection:
        if self._connection is not None and self._connection.idle():
            self._connection.until = until
            return self._connection
        self.close()
        self._connection = Connection(self._host, self._port, self._context, self._host, until)
        return self._connection


def _body(rows: Sequence[Row]) -> bytes:
    lines = [json.dumps(row, ensure_ascii=False, allow_nan=False, separators=(",", ":")) for row in rows]
    return gzip.compress("\n".join(lines).encode(), 6, mtime=0)


def _check(answer: Answer, table: str) -> None:
    """SinkError unless it is a ClickHouse that says that it has the rows."""
    is_clickhouse = any(name.startswith("x-clickhouse-") for name in answer.headers)
    if answer.status == 200 and is_clickhouse and answer.complete and not answer.body:
        return
    found = _CODE.search(answer.body)
    code = int(found[1]) if found else None
    told = answer.body[:300].decode("ascii", "replace").strip().replace("\n", " ")
    if answer.status == 200 and code is None:
        raise SinkError(f"status 200, but not an answer of ClickHouse: {told!r}", "retry")
    kind: Kind = "rejected" if answer.status in DATA_STATUSES or code in DATA_CODES else "retry"
    raise SinkError(f"table {table}: status {answer.status}: {told}", kind)


def _split_url(config: ClickHouseConfig) -> tuple[str, int, str, TlsConfig]:
    """Host, port, Host header, TLS. ValueError with a sentence."""
    try:
        parts = urlsplit(config.url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"url {config.url!r}: {error}") from error
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError(f"url {config.url!r}: is not http://HOST:PORT or https://HOST:PORT")
    if parts.username or parts.password:
        raise ValueError("url: has a user or a password in it; set user and password_file")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(f"url {config.url!r}: has a path; ClickHouse listens at /")
    tls = parts.scheme == "https"
    return (host, port or (8443 if tls else 8123), parts.netloc,
            TlsConfig(enabled=tls, ca_file=config.ca_file))
