"""The configuration, typed: one frozen value; every default works untouched. docs/config.md is written from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """[agent]: how it watches."""

    rate_hz: float = 19.0  # samples per second and CPU while nobody asks for more
    budget_ratio: float | None = 0.01  # of the targets' CPU time for our own; None: no limit
    window_s: float = 10.0
    state_dir: Path = Path("/var/lib/excise")
    runtime_dir: Path = Path("/run/excise")  # control.sock
    group: str = "excise"  # whose members may ask through the socket, beside root


@dataclass(frozen=True, slots=True)
class HistoryConfig:
    """[history]: what is kept on disk, for reports and for sinks that are down."""

    keep_s: float = 86_400.0
    most_bytes: int = 200_000_000
    stacks: int = 50  # of a window and workload


@dataclass(frozen=True, slots=True)
class WorkloadRule:
    """[[discovery.workload]]: what is given must all match; shell patterns. Without a name, it is named as found."""

    name: str = ""
    command: str = ""  # the executable's base name, or that of a script that an interpreter runs
    cgroup: str = ""  # path as in /proc/PID/cgroup
    unit: str = ""
    container: str = ""  # id or name
    user: str = ""
    ignore: bool = False  # never watch what matches


DEFAULT_LIBRARIES = (
    "libtorch*.so*", "libonnxruntime*.so*", "onnxruntime_pybind11_state*.so", "libcuda.so*", "libnvinfer*.so*",
    "libggml*.so*", "libllama*.so*", "libtensorflow*.so*", "_pywrap_tensorflow*.so", "libopenvino*.so*",
    "libmxnet*.so*", "libtvm*.so*", "xla_extension*.so", "libjax*.so*", "libctranslate2*.so*", "libamdhip64.so*",
)


@dataclass(frozen=True, slots=True)
class DiscoveryConfig:
    """[discovery]: which processes are watched."""

    libraries: tuple[str, ...] = DEFAULT_LIBRARIES  # a process that maps one of these is watched; base names
    workloads: tuple[WorkloadRule, ...] = ()  # the first that matches decides
    interval_s: float = 1.0
    most_workloads: int = 64


@dataclass(frozen=True, slots=True)
class PrometheusConfig:
    """[prometheus]"""

    enabled: bool = True
    listen: str = "127.0.0.1:9477"  # loopback only


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """Of a sink that connects with TLS; paths, so that no secret is in the configuration."""

    enabled: bool = False
    ca_file: Path | None = None  # None: the system's
    cert_file: Path | None = None
    key_file: Path | None = None
    server_name: str = ""  # "": the address's host


@dataclass(frozen=True, slots=True)
class ForwardConfig:
    """[[forward]]: Fluent Forward v1."""

    name: str = "forward"
    address: str = "127.0.0.1:24224"
    tag: str = "excise.summary"
    shared_key_file: Path | None = None
    user: str = ""  # "": none; a server asks for it together with the shared key
    password_file: Path | None = None
    tls: TlsConfig = field(default_factory=TlsConfig)
    timeout_s: float = 10.0


@dataclass(frozen=True, slots=True)
class ClickHouseConfig:
    """[[clickhouse]]: over HTTP."""

    name: str = "clickhouse"
    url: str = "http://127.0.0.1:8123"
    database: str = "excise"
    user: str = "default"
    password_file: Path | None = None
    ca_file: Path | None = None
    timeout_s: float = 10.0
    stacks: bool = False  # send stacks too: 50 rows a window and workload


@dataclass(frozen=True, slots=True)
class LogConfig:
    """[log]"""

    level: str = "info"  # debug, info, warning, error


@dataclass(frozen=True, slots=True)
class Config:
    """All of it."""

    agent: AgentConfig = field(default_factory=AgentConfig)
    history: HistoryConfig = field(default_factory=HistoryConfig)
    discovery: DiscoveryConfig = field(default_factory=DiscoveryConfig)
    prometheus: PrometheusConfig = field(default_factory=PrometheusConfig)
    forward: tuple[ForwardConfig, ...] = ()
    clickhouse: tuple[ClickHouseConfig, ...] = ()
    stages: tuple[Path, ...] = ()  # more rule files; /etc/excise/stages.d/*.toml come before them
    log: LogConfig = field(default_factory=LogConfig)
