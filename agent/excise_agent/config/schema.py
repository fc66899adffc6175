"""The configuration, typed: one frozen value; every default works untouched.

The default file and the table in docs/config.md are written from here: python -m excise_agent.config.document
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from excise_agent.config.addresses import Address, LoopbackAddress, Url
from excise_agent.config.amounts import Duration, Share, Size
from excise_agent.config.kinds import Choice, Flag, Folder, Many, Number, OptionalFile, Text, Whole
from excise_agent.config.setting import section, setting, tables

_NAME: Final = Text("at most 32 letters, digits, dots, - and _", r"[A-Za-z0-9][\w.-]{0,31}")
_PATTERN: Final = Text("a shell pattern, like \"vllm*\"")


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """[agent]: how it watches."""

    rate_hz: float = setting(19.0, Number(0, 1000), "samples per second and CPU while nobody asks for more; 0: none")
    budget_ratio: float | None = setting(
        0.01, Share(0.0001, 1), "what the agent may cost, of the watched processes' CPU time; none: no limit",
        key="budget")
    window_s: float = setting(10.0, Duration(1, 600, "10s"), "what a summary spans", key="window")
    state_dir: Path = setting(Path("/var/lib/excise"), Folder(), "where the history is", restart=True)
    runtime_dir: Path = setting(Path("/run/excise"), Folder(), "where control.sock is", restart=True)
    group: str = setting(
        "excise", Text("a group's name, or \"\" for root alone", r"([A-Za-z_][\w.-]{0,31}\$?)?"),
        "whose members may ask through control.sock, beside root", restart=True)


@dataclass(frozen=True, slots=True)
class HistoryConfig:
    """[history]: what is kept on disk, for reports and for sinks that are down."""

    keep_s: float = setting(86_400.0, Duration(60, 366 * 86_400, "24h"), "how long", key="keep")
    most_bytes: int = setting(200_000_000, Size(1_000_000, 10**12, "200MB"),
                              "how much; the oldest goes first", key="size")
    stacks: int = setting(50, Whole(0, 1000), "the heaviest stacks that are kept of a workload and window")


@dataclass(frozen=True, slots=True)
class WorkloadRule:
    """[[discovery.workload]]: processes to watch or to leave alone; what is given must all match, the first rule that
    matches decides."""

    name: str = setting("", Text("at most 128 characters", r".{0,128}"),
                        "what it is called; empty: as it is found")
    command: str = setting("", _PATTERN, "base name of the program, or of the script that an interpreter runs")
    cgroup: str = setting("", _PATTERN, "path as in /proc/PID/cgroup")
    unit: str = setting("", _PATTERN, "systemd unit")
    container: str = setting("", _PATTERN, "id or name")
    user: str = setting("", _PATTERN, "whose processes")
    ignore: bool = setting(False, Flag(), "never watch what matches")

    def objections(self) -> Iterator[tuple[str, str]]:
        if not (self.command or self.cgroup or self.unit or self.container or self.user):
            yield "", "would match every process: give it command, cgroup, unit, container or user"


DEFAULT_LIBRARIES = (
    "libtorch*.so*", "libonnxruntime*.so*", "onnxruntime_pybind11_state*.so", "libcuda.so*", "libnvinfer*.so*",
    "libggml*.so*", "libllama*.so*", "libtensorflow*.so*", "_pywrap_tensorflow*.so", "libopenvino*.so*",
    "libmxnet*.so*", "libtvm*.so*", "xla_extension*.so", "libjax*.so*", "libctranslate2*.so*", "libamdhip64.so*",
)


@dataclass(frozen=True, slots=True)
class DiscoveryConfig:
    """[discovery]: which processes are watched."""

    libraries: tuple[str, ...] = setting(
        DEFAULT_LIBRARIES, Many(_PATTERN, "a list of shell patterns"),
        "a process that maps one of these is watched; base names")
    interval_s: float = setting(1.0, Duration(0.1, 60, "1s"), "how often it looks", key="interval")
    most_workloads: int = setting(64, Whole(1, 10_000), "more than these are not watched, and counted")
    workloads: tuple[WorkloadRule, ...] = tables(
        WorkloadRule, WorkloadRule(name="chat", command="vllm*"), key="workload")


@dataclass(frozen=True, slots=True)
class PrometheusConfig:
    """[prometheus]: metrics to be scraped, on this host alone."""

    enabled: bool = setting(True, Flag(), "serve /metrics")
    listen: str = setting("127.0.0.1:9477", LoopbackAddress(), "where; loopback only")


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """[forward.tls]: encryption; only paths, so that no secret is in the configuration."""

    enabled: bool = setting(False, Flag(), "connect with TLS")
    ca_file: Path | None = setting(None, OptionalFile(), "who signs the server's certificate; empty: the system's list")
    cert_file: Path | None = setting(None, OptionalFile(), "our certificate, if the server asks for one")
    key_file: Path | None = setting(None, OptionalFile(), "its private key")
    server_name: str = setting("", Text("a host's name, or \"\"", r"[A-Za-z0-9.-]{0,253}"),
                               "what the certificate must name; empty: the address's host")

    def objections(self) -> Iterator[tuple[str, str]]:
        if not self.enabled and (self.ca_file or self.cert_file or self.key_file or self.server_name):
            yield "enabled", "is false, so that nothing would be encrypted: set enabled = true, or remove the others"
        if bool(self.cert_file) != bool(self.key_file):
            yield "", "cert_file and key_file belong together: give both or none"


@dataclass(frozen=True, slots=True)
class ForwardConfig:
    """[[forward]]: a sink that speaks Fluent Forward v1: Fluent Bit, Fluentd, Vector."""

    name: str = setting("forward", _NAME, "what status and metrics call it; sinks differ in it")
    address: str = setting("127.0.0.1:24224", Address(), "where it listens")
    tag: str = setting("excise.summary", Text("a tag of at most 128 characters", r"[!-~]{1,128}"), "of the events")
    shared_key_file: Path | None = setting(None, OptionalFile(), "the shared key, alone in a file")
    user: str = setting("", Text("a user's name of at most 128 characters, or empty", r".{0,128}"),
                        "for a server that asks for one together with the shared key")
    password_file: Path | None = setting(None, OptionalFile(), "the user's password, alone in a file")
    timeout_s: float = setting(10.0, Duration(0.1, 600, "10s"), "for its answer", key="timeout")
    tls: TlsConfig = section(TlsConfig)


@dataclass(frozen=True, slots=True)
class ClickHouseConfig:
    """[[clickhouse]]: a sink that inserts into ClickHouse over HTTP."""

    name: str = setting("clickhouse", _NAME, "what status and metrics call it; sinks differ in it")
    url: str = setting("http://127.0.0.1:8123", Url(), "where it listens")
    database: str = setting("excise", Text("a database's name: letters, digits and _", r"[A-Za-z_][A-Za-z0-9_]{0,63}"),
                            "whose tables packaging/clickhouse/ makes")
    user: str = setting("default", Text("a user's name of at most 128 characters", r".{1,128}"), "who inserts")
    password_file: Path | None = setting(None, OptionalFile(), "the user's password, alone in a file")
    ca_file: Path | None = setting(None, OptionalFile(), "who signs the server's certificate; empty: the system's list")
    timeout_s: float = setting(10.0, Duration(0.1, 600, "10s"), "for its answer", key="timeout")
    stacks: bool = setting(False, Flag(), "whether to send stacks too: 50 rows a window and workload")


@dataclass(frozen=True, slots=True)
class LogConfig:
    """[log]: what goes to the journal."""

    level: str = setting("info", Choice("debug", "info", "warning", "error"), "the least that is logged")


@dataclass(frozen=True, slots=True)
class Config:
    """The top: keys that stand before the first table."""

    stages: tuple[Path, ...] = setting(
        (), Many(Folder(), "a list of absolute paths"),
        "more files of stage rules; those in /etc/excise/stages.d come before them")
    agent: AgentConfig = section(AgentConfig)
    history: HistoryConfig = section(HistoryConfig)
    discovery: DiscoveryConfig = section(DiscoveryConfig)
    prometheus: PrometheusConfig = section(PrometheusConfig)
    log: LogConfig = section(LogConfig)
    forward: tuple[ForwardConfig, ...] = tables(ForwardConfig)
    clickhouse: tuple[ClickHouseConfig, ...] = tables(ClickHouseConfig)

    def objections(self) -> Iterator[tuple[str, str]]:
        seen: set[str] = set()
        names = [(f"forward[{at}].name", sink.name) for at, sink in enumerate(self.forward)]
        names += [(f"clickhouse[{at}].name", sink.name) for at, sink in enumerate(self.clickhouse)]
        for key, name in names:
            if name in seen:
                yield key, f'is "{name}", as another sink is called: give each a name of its own'
            seen.add(name)
        if self.history.keep_s < self.agent.window_s:
            yield "history.keep", "is shorter than agent.window: nothing would be kept"
