"""The sinks of the configuration, each with its own place in the spool, and the endpoint that Prometheus asks."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

from excise import __version__
from excise.spool import Cursor, SpoolError
from excise.summary import Summary
from excise.workload import Workload
from excise_agent.config import Config
from excise_agent.config.schema import ClickHouseConfig, ForwardConfig
from excise_agent.sinks.clickhouse import ClickHouseSink
from excise_agent.sinks.counts import read_counts
from excise_agent.sinks.forward import ForwardSink
from excise_agent.sinks.prometheus import Metrics
from excise_agent.sinks.prometheus_listen import ListenError
from excise_agent.sinks.prometheus_server import MetricsServer
from excise_agent.sinks.prometheus_status import AgentStatus
from excise_agent.sinks.shipper import Shipper, SinkState
from excise_agent.sinks.sink import AgentInfo, Sink

STOP_S: Final = 3.0  # a delivery under way may take so long when the service stops

SinkConfig: TypeAlias = ForwardConfig | ClickHouseConfig

_log = logging.getLogger(__name__)


class Shipping:
    """`status`: of the agent, for the endpoint; it is asked for in the endpoint's thread."""

    def __init__(
        self, agent: str, state_dir: Path, status: Callable[[], AgentStatus | None], most_workloads: int
    ) -> None:
        self._info = AgentInfo(agent, socket.gethostname(), __version__)
        self._spool_dir = state_dir / "spool"
        self._state_dir = state_dir
        self._shippers: dict[SinkConfig, Shipper] = {}
        self._broken: dict[SinkConfig, str] = {}
        self._server: MetricsServer | None = None
        self._listen = ""
        self.metrics = Metrics(status, most_workloads)

    def follow(self, config: Config) -> None:
        """Runs the sinks of this configuration and no others. A sink that cannot be made is told, and the rest run.
        Raises ListenError when /metrics cannot be served, with the rest at work."""
        wanted: list[SinkConfig] = [*config.forward, *config.clickhouse]
        for old in [c for c in self._shippers if c not in wanted]:
            self._stop(old)
        self._broken = {}
        for new in wanted:
            if new not in self._shippers:
                self._start(new)
        self._serve(config.prometheus.listen if config.prometheus.enabled else "")

    def states(self) -> list[tuple[str, SinkState]]:
        """Kind and state of each sink."""
        made = [(_kind(config), shipper.state()) for config, shipper in self._shippers.items()]
        return made + [(_kind(config), self._broken_state(config, why)) for config, why in self._broken.items()]

    def _broken_state(self, config: SinkConfig, why: str) -> SinkState:
        """It does not run; what it delivered before is known."""
        counts = read_counts(self._counts_file(config), self._info.agent)
        return SinkState(config.name, counts.delivered, counts.lost, 0, why, None, None, 1, None)

    def _counts_file(self, config: SinkConfig) -> Path:
        return self._state_dir / f"sink-{config.name}.json"

    @property
    def listens(self) -> str:
        """Where /metrics is; "" nowhere."""
        return "{}:{}".format(*self._server.address) if self._server is not None else ""

    def close(self) -> None:
        """What was not delivered stays in the spool."""
        for config in list(self._shippers):
            self._stop(config)
        self._serve("")

    def take(self, workload: Workload, summary: Summary) -> None:
        """A window, for the endpoint: sinks find it in the spool."""
        self.metrics.take(workload, summary)

    def _start(self, config: SinkConfig) -> None:
        try:
            sink: Sink = ForwardSink(config) if isinstance(config, ForwardConfig) else ClickHouseSink(config)
            cursor = Cursor(self._spool_dir, config.name)
        except (ValueError, OSError, SpoolError) as error:
            self._broken[config] = str(error)
            _log.error("sink %s does not run: %s", config.name, error)
            return
        if cursor.note:
            _log.warning("%s", cursor.note)
        shipper = Shipper(sink, cursor, self._info, self._counts_file(config))
        self._shippers[config] = shipper
        shipper.start()

    def _stop(self, config: SinkConfig) -> None:
        if not self._shippers.pop(config).stop(STOP_S):
            _log.warning("sink %s did not stop in %.0f s", config.name, STOP_S)

    def _serve(self, listen: str) -> None:
        if listen == self._listen:
            return
        if self._server is not None:
            if not self._server.stop():
                _log.warning("the endpoint of /metrics did not stop in time")
            self._server, self._listen = None, ""
        if listen:
            self._server = MetricsServer(listen, self.metrics)
            self._server.start()
            self._listen = listen


def _kind(config: SinkConfig) -> str:
    return "forward" if isinstance(config, ForwardConfig) else "clickhouse"


__all__ = ["ListenError", "Shipping"]
