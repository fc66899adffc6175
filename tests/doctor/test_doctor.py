"""What hosts of other kinds would be told. The host is a folder; what must be tried, a table answers."""

from __future__ import annotations

import io
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from rich.console import Console

from excise_agent._doors import Doors
from excise_agent.capabilities import Capabilities, Check, collect_capabilities
from excise_agent.doctor import exit_code, render_doctor

ALL_CAPABILITIES = "000001ffffffffff"
EPERM = "EPERM: Operation not permitted"


@dataclass(frozen=True)
class FakeDoors(Doors):
    """A host on which everything works, but for what `refused` says."""

    refused: dict[str, str] = field(default_factory=dict)
    packages: dict[str, Path] = field(default_factory=dict)
    cache: bool = True
    py_spy: str = "/usr/bin/py-spy"
    kernel: str = "6.1.0-18-amd64"
    arch: str = "x86_64"

    def writable(self, path: Path) -> bool:
        return self.cache

    def release(self) -> str:
        return self.kernel

    def machine(self) -> str:
        return self.arch

    def which(self, program: str) -> str:
        return self.py_spy

    def version_of(self, distribution: str) -> str:
        return "0.4.0"

    def package_dir(self, module: str) -> Path | None:
        return self.packages.get(module)

    def try_bpf(self) -> str:
        return self.refused.get("bpf", "")

    def try_ring_buffer(self) -> str:
        return self.refused.get("ring_buffer", "")

    def try_raw_tracepoint(self) -> str:
        return self.refused.get("raw_tracepoints", "")

    def try_timer(self) -> str:
        return self.refused.get("timer", "")

    def try_kernel_names(self) -> str:
        return self.refused.get("kernel_names", "")

    def try_cycles(self) -> str:
        return self.refused.get("hardware_counters", "")

    def try_target(self, pid: int) -> str:
        return self.refused.get("target", "")

    def try_nvml(self) -> tuple[str, str]:
        why = self.refused.get("nvidia", "")
        return ("", why) if why else ("driver 570.1, 8 device(s)", "")


class Host:
    """A folder that looks like a good host, to be spoiled."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.options: dict[str, object] = {}
        for path, text in {
            "proc/self/status": f"Name:\tx\nCapEff:\t{ALL_CAPABILITIES}\n",
            "proc/self/mountinfo": "41 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
            "proc/sys/kernel/perf_event_paranoid": "2\n",
            "proc/sys/kernel/kptr_restrict": "1\n",
            "proc/kallsyms": "ffffffff81000000 T _text\nffffffff81000040 T do_work\n",
            "sys/kernel/btf/vmlinux": "",
            "sys/kernel/tracing/events/x": "",
            "sys/kernel/security/lockdown": "[none] integrity confidentiality\n",
            "sys/bus/event_source/devices/uprobe/type": "8\n",
            "sys/bus/event_source/devices/kprobe/type": "7\n",
            "usr/lib/x86_64-linux-gnu/libbcc.so.0": "",
            "etc/os-release": 'ID=debian\nVERSION_ID="12"\n',
            "bcc/libbcc.py": "",
            "bcc/version.py": "__version__ = '0.26.0'\n",
        }.items():
            self.write(path, text)
        (root / "proc/self/ns").mkdir()
        self.pid_namespace("pid:[4026531836]")

    def write(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def remove(self, path: str) -> None:
        (self.root / path).unlink()

    def pid_namespace(self, name: str) -> None:
        link = self.root / "proc/self/ns/pid"
        link.unlink(missing_ok=True)
        link.symlink_to(name)

    def ask(self, uid: int = 0, refused: dict[str, str] | None = None, **options: object) -> Capabilities:
        options.setdefault("packages", {"bcc": self.root / "bcc"})
        doors = FakeDoors(root=self.root, uid=uid, refused=refused or {}, **options)  # type: ignore[arg-type]
        return collect_capabilities(os.getpid(), doors)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.delenv("CACHE_DIRECTORY", raising=False)
    return Host(tmp_path)


def test_good_host_has_no_complaint(host: Host) -> None:
    caps = host.ask()
    assert [c for c in caps.checks if c.status != "ok" or c.lost or c.fix] == []
    assert (caps.attach, exit_code(caps), caps.blockers) == ("bpf", 0, ())


def test_names_of_checks_are_unique(host: Host) -> None:
    names = [c.name for c in host.ask().checks]
    assert len(names) == len(set(names))
    with pytest.raises(KeyError):
        host.ask()["nonsense"]


@pytest.mark.parametrize("name", ["bpf", "ring_buffer", "raw_tracepoints", "timer"])
def test_refused_kernel_interface_leaves_py_spy(host: Host, name: str) -> None:
    caps = host.ask(refused={name: EPERM})
    assert (caps.attach, exit_code(caps)) == ("py-spy", 1)
    assert [c.name for c in caps.blockers] == [name]
    assert (caps[name].status, caps[name].found) == ("error", EPERM)


def test_nothing_works_without_reading_a_target(host: Host) -> None:
    assert exit_code(host.ask(refused={"target": EPERM})) == 2
    assert exit_code(host.ask(refused={"bpf": EPERM}, py_spy="")) == 2


@pytest.mark.parametrize(("spoil", "name", "status"), [
    ("sys/kernel/btf/vmlinux", "btf", "missing"),
    ("sys/bus/event_source/devices/uprobe/type", "uprobes", "missing"),
    ("sys/bus/event_source/devices/kprobe/type", "kprobes", "missing"),
    ("sys/kernel/tracing/events/x", "tracefs", "missing"),
    ("usr/lib/x86_64-linux-gnu/libbcc.so.0", "compiler", "missing"),
    ("proc/self/mountinfo", "cgroup", "missing"),
    ("proc/kallsyms", "kernel_symbols", "ok"),
    ("proc/sys/kernel/perf_event_paranoid", "perf_events", "missing"),
    ("sys/kernel/security/lockdown", "lockdown", "ok"),
])
def test_absent_file_shows_in_its_row_alone(host: Host, spoil: str, name: str, status: str) -> None:
    host.remove(spoil)
    if "events" in spoil:
        (host.root / spoil).parent.rmdir()
    caps = host.ask()
    assert caps[name].status == status
    assert [c.name for c in caps.checks if c.status != "ok"] == ([name] if status != "ok" else [])


def test_every_complaint_says_what_is_lost_and_how_to_get_it(host: Host) -> None:
    for path in ("proc/kallsyms", "sys/kernel/btf/vmlinux", "proc/self/mountinfo", "bcc/libbcc.py",
                 "sys/bus/event_source/devices/uprobe/type", "sys/bus/event_source/devices/kprobe/type"):
        host.remove(path)
    host.write("proc/self/status", "CapEff:\t0000000000000000\n")
    host.pid_namespace("pid:[4026532999]")
    caps = host.ask(uid=1000, refused=dict.fromkeys(
        ("bpf", "ring_buffer", "raw_tracepoints", "timer", "hardware_counters", "target", "nvidia",
         "kernel_names"), EPERM),
        cache=False, py_spy="", kernel="5.10.0", arch="aarch64")
    complaints = [c for c in caps.checks if c.status != "ok"]
    assert len(complaints) > 15
    assert [c.name for c in complaints if not (c.lost and c.fix and c.found)] == []


def test_single_capabilities_are_named_with_what_they_give(host: Host) -> None:
    host.write("proc/self/status", f"CapEff:\t{1 << 39 | 1 << 38 | 1 << 19:016x}\n")
    row = host.ask(uid=1000)["capabilities"]
    assert row.found == "uid 1000, without CAP_DAC_READ_SEARCH CAP_CHECKPOINT_RESTORE"
    assert "CAP_CHECKPOINT_RESTORE: names in deleted and replaced libraries" in row.lost
    host.write("proc/self/status", f"CapEff:\t{1 << 21 | 1 << 19 | 1 << 2:016x}\n")
    assert host.ask(uid=0)["capabilities"].status == "ok"


@pytest.mark.parametrize(("release", "status"), [
    ("5.15.0-91-generic", "ok"), ("6.18.44", "ok"), ("5.14.0-427.el9.x86_64", "missing"), ("odd", "missing"),
])
def test_kernel_must_have_the_helpers(host: Host, release: str, status: str) -> None:
    assert host.ask(kernel=release)["kernel"].status == status


def test_lockdown_that_forbids_reading_is_a_blocker(host: Host) -> None:
    host.write("sys/kernel/security/lockdown", "none [integrity] confidentiality\n")
    assert host.ask().attach == "bpf"
    host.write("sys/kernel/security/lockdown", "none integrity [confidentiality]\n")
    assert host.ask().attach == "py-spy"


def test_hidden_kernel_addresses_are_told_from_an_absent_file(host: Host) -> None:
    host.write("proc/kallsyms", "0000000000000000 T _text\n0000000000000000 T do_work\n")
    refused = {"kernel_names": EPERM}
    assert host.ask(refused=refused)["kernel_symbols"].found == "addresses are hidden, kptr_restrict 1"
    host.remove("proc/kallsyms")
    assert host.ask(refused=refused)["kernel_symbols"].found == "no /proc/kallsyms"


def test_hidden_kernel_addresses_do_no_harm_where_the_kernel_prints_them(host: Host) -> None:
    host.write("proc/kallsyms", "0000000000000000 T _text\n0000000000000000 T do_work\n")
    assert host.ask()["kernel_symbols"].status == "ok"


def test_other_package_called_bcc_is_not_taken_for_the_compiler(host: Host) -> None:
    host.remove("bcc/libbcc.py")
    row = host.ask()["compiler"]
    assert row.status == "missing"
    assert row.fix == "pip uninstall bcc; apt install python3-bpfcc"


def test_bcc_that_only_another_interpreter_sees_is_told_apart(host: Host) -> None:
    assert host.ask(packages={})["compiler"].found == "no bcc"
    host.write("usr/lib/python3/dist-packages/bcc/__init__.py", "")
    assert "--system-site-packages" in host.ask(packages={})["compiler"].fix


@pytest.mark.parametrize(("release", "command"), [
    ("ID=ubuntu\nID_LIKE=debian\n", "apt install python3-bpfcc"),
    ('ID="rocky"\nID_LIKE="rhel centos fedora"\n', "dnf install python3-bcc"),
    ("ID=nixos\n", "install your distribution's bcc for Python (python3-bpfcc, python3-bcc)"),
])
def test_fix_names_the_distributions_package(host: Host, release: str, command: str) -> None:
    host.write("etc/os-release", release)
    assert host.ask(packages={})["compiler"].fix == command


def test_cached_probes_do_without_a_compiler(host: Host) -> None:
    host.write("var/cache/excise/probes-ab.msgpack", "")
    caps = host.ask(packages={})
    assert caps["compiler"].status == "degraded"
    assert caps.attach == "bpf"
    assert caps["probe_cache"].found == "/var/cache/excise, probes are in it"


def test_without_rights_only_a_process_of_our_own_counts_as_the_test(host: Host) -> None:
    host.write("proc/self/status", "CapEff:\t0000000000000000\n")
    doors = FakeDoors(root=host.root, uid=1000)
    assert collect_capabilities(None, doors)["target"].found.startswith(f"memory of pid {os.getpid()} ")
    host.write("proc/sys/kernel/yama/ptrace_scope", "1\n")
    assert collect_capabilities(None, doors)["target"].status == "error"


def test_container_is_named(host: Host) -> None:
    host.write(".dockerenv", "")
    assert host.ask()["pid_namespace"].found == "the host's, container (docker)"
    host.pid_namespace("pid:[4026532999]")
    row = host.ask()["pid_namespace"]
    assert row.status == "degraded"
    assert "--pid=host" in row.fix


def test_driver_without_its_library_is_an_error_and_no_driver_is_not(host: Host) -> None:
    why = {"nvidia": "nvmlInit: NVML Shared Library Not Found"}
    assert host.ask(refused=why)["nvidia"].status == "missing"
    host.write("proc/driver/nvidia/version", "NVRM version: 570\n")
    assert host.ask(refused=why)["nvidia"].status == "error"
    assert host.ask()["nvidia"].found == "driver 570.1, 8 device(s)"


def test_rows_go_into_json_and_come_back(host: Host) -> None:
    caps = host.ask(refused={"bpf": EPERM})
    loaded = json.loads(json.dumps(caps.to_json()))
    assert loaded["attach"] == "py-spy"
    assert Capabilities(tuple(Check(**row) for row in loaded["checks"])) == caps


def rendered(caps: Capabilities) -> tuple[int, str]:
    out = io.StringIO()
    render_doctor(caps, Console(file=out, width=150))
    return exit_code(caps), out.getvalue()


def test_table_shows_every_check_and_the_verdict(host: Host) -> None:
    caps = host.ask()
    code, text = rendered(caps)
    assert code == 0
    assert all(c.name.replace("_", " ") in text for c in caps.checks)
    assert "attach works: exact" in text


def test_table_shows_what_is_lost_and_why_attach_is_not_exact(host: Host) -> None:
    code, text = rendered(host.ask(refused={"bpf": "EPERM: [not] permitted"}))
    assert code == 1
    assert "EPERM: [not] permitted" in text  # not taken for markup
    assert "lost: everything exact" in text
    assert "attach does not work here" in text
    code, text = rendered(host.ask(refused={"target": EPERM}))
    assert code == 2
    assert "cannot work here" in text
