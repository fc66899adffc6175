"""A running agent from outside: where it listens, who may ask, which system calls it makes, and what is left of it."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bpf.kernel_objects import anonymous_descriptors, ids, ids_of
from security.running_agent import RunningAgent, until

BUSY = "import time\nprint(flush=True)\nwhile True:\n    sum(range(20000)); time.sleep(0.002)\n"
RULE = '[[discovery.workload]]\nname = "busy"\ncommand = "busy.py"\n'
LOOPBACK = '[prometheus]\nlisten = "127.0.0.1:0"\n'
HARMFUL = ("ptrace", "process_vm_writev", "process_vm_readv", "kill", "tkill", "tgkill", "pidfd_send_signal",
           "pidfd_getfd", "setns", "process_madvise", "kcmp", "prlimit64", "sched_setaffinity",
           "sched_setscheduler", "setpriority", "ioprio_set", "migrate_pages", "move_pages")

pytestmark = pytest.mark.bpf


@pytest.fixture
def busy(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    script = folder / "busy.py"
    script.write_text(BUSY)
    process = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"\n"
    yield process
    assert process.poll() is None
    process.kill()
    process.communicate()


def sockets_of(pid: int) -> set[str]:
    """Inodes."""
    found = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            if match := re.fullmatch(r"socket:\[(\d+)\]", os.readlink(fd)):
                found.add(match[1])
    return found


def internet_sockets(pid: int) -> list[tuple[str, str, int]]:
    """Of any protocol: (protocol, address in hexadecimal, port)."""
    mine = sockets_of(pid)
    out = []
    for protocol in ("tcp", "tcp6", "udp", "udp6", "udplite", "raw", "raw6", "icmp", "icmp6"):
        table = Path(f"/proc/{pid}/net/{protocol}")
        for line in table.read_text().splitlines()[1:] if table.exists() else ():
            words = line.split()
            if words[9] in mine:
                address, port = words[1].split(":")
                out.append((protocol, address, int(port, 16)))
    return out


def test_it_listens_on_loopback_and_on_its_socket_and_nowhere_else(agent: RunningAgent) -> None:
    agent.start(LOOPBACK + RULE)
    port = int(str(agent.status()["metrics"]).rpartition(":")[2])
    assert internet_sockets(agent.pid) == [("tcp", "0100007F", port)]
    mine = sockets_of(agent.pid)
    table = [line.split() for line in Path(f"/proc/{agent.pid}/net/unix").read_text().splitlines()[1:]]
    named = [words[7] for words in table if words[6] in mine and len(words) > 7]
    assert len(named) == 1 and named[0].endswith("/control.sock")
    assert not Path(f"/proc/{agent.pid}/net/packet").exists() or not [
        line for line in Path(f"/proc/{agent.pid}/net/packet").read_text().splitlines()[1:] if line.split()[8] in mine]
    made = {}
    for path in (agent.run, *agent.run.iterdir(), agent.state, *agent.state.rglob("*")):
        with contextlib.suppress(FileNotFoundError):  # a temporary one
            made[path.name] = path.lstat().st_mode
    assert stat.S_IMODE(made["control.sock"]) == 0o600  # 0660 with a group; it has none here
    assert not any(mode & 0o007 for mode in made.values()), made
    agent.stop()
    assert not agent.socket.exists()


@pytest.mark.parametrize("address", ["0.0.0.0:9477", "[::]:9477", ":9477", "10.0.0.1:9477", "localhost.evil.com:9477",
                                     "127.0.0.1.nip.io:9477", "[::ffff:10.0.0.1]:9477"])
def test_an_address_that_others_can_reach_is_refused(address: str, folder: Path) -> None:
    running = RunningAgent(folder)
    running.config.write_text(f'[prometheus]\nlisten = "{address}"\n')
    done = running.excise("config", "check", "--config", str(running.config))
    assert done.returncode == 2 and b"must be an address of this host alone" in done.stderr, done.stderr


def test_it_makes_no_system_call_that_could_stop_or_change_a_target(
    agent: RunningAgent, folder: Path, busy: subprocess.Popen[bytes]
) -> None:
    trace = folder / "trace"
    agent.start(LOOPBACK + RULE, before=("strace", "-f", "-qq", "--signal=none", "-o", str(trace), "-e",
                                         "trace=openat,open," + ",".join(HARMFUL)))
    until(lambda: agent.windows("busy") >= 2, "two windows")
    agent.stop()
    calls = [line.split(maxsplit=1)[1].strip() for line in trace.read_text().splitlines()]
    assert any(f"/proc/{busy.pid}/mem" in call for call in calls)  # it was watched, and we saw
    harmful = [call for call in calls if call.startswith(tuple(f"{name}(" for name in HARMFUL))]
    ours = re.compile(r"(prlimit64|sched_setaffinity|setpriority|sched_setscheduler)\(0,")  # of the caller itself
    assert [call for call in harmful if not ours.match(call)] == []
    written = [call for call in calls if call.startswith("open") and "/proc/" in call and
               re.search(r"O_WRONLY|O_RDWR", call) and "/proc/self/" not in call]
    assert written == []


@pytest.mark.parametrize("moment", range(3))
def test_killed_at_any_moment_it_leaves_nothing_in_the_kernel_and_its_target_alone(
    moment: int, agent: RunningAgent, busy: subprocess.Popen[bytes]
) -> None:
    def switches() -> int:
        text = Path(f"/proc/{busy.pid}/status").read_text()
        assert "TracerPid:\t0" in text and text.partition("State:\t")[2][0] in "RSD"
        return int(text.partition("\nvoluntary_ctxt_switches:\t")[2].split()[0])

    agent.start(LOOPBACK + RULE)
    until(lambda: bool(agent.status()["probes"]["attached"]), "the probes are on")
    until(lambda: agent.windows("busy") >= moment, f"{moment} windows")
    had = ids_of(agent.pid)
    assert had["programs"] and had["maps"] and anonymous_descriptors(agent.pid)
    agent.kill()
    until(lambda: not any(had[kind] & ids(kind) for kind in ("programs", "links", "maps")), "all of it is freed")
    before = switches()
    until(lambda: switches() > before + 20, "the target goes on")
