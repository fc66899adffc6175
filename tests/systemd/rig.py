"""A Debian 12 of its own, booted under systemd-nspawn: where the package is installed, started, killed and purged.

The tree that debootstrap makes (50 s, 590 MB) is kept in /var/tmp/excise-rig for the next run on this machine. The
machine has no network but its loopback, and a pid namespace of its own, as the agent's container would.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep

SUITE = "bookworm"
MIRROR = os.environ.get("EXCISE_TEST_MIRROR", "http://deb.debian.org/debian")
PACKAGES = ("systemd", "systemd-sysv", "dbus", "procps", "python3", "python3-bpfcc")
"""What boots, and what the package depends on: there is no network in which apt could find it."""

KEPT = Path("/var/tmp/excise-rig")
DEADLINE_S = 120
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def until(condition: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Waits for what another process makes true."""
    end = monotonic() + deadline_s
    while not condition():
        assert monotonic() < end, f"not within {deadline_s} s: {what}"
        sleep(0.1)


class Base:
    """The bare tree: made in the background, or found."""

    def __init__(self) -> None:
        key = hashlib.sha256(repr((SUITE, MIRROR, PACKAGES)).encode()).hexdigest()[:12]
        self.path = KEPT / key
        self._part: Path | None = None
        if self.path.is_dir():
            return
        KEPT.mkdir(mode=0o700, exist_ok=True)
        self._part = Path(tempfile.mkdtemp(prefix=f"{key}.", dir=KEPT))
        self._log = Path(f"{self._part}.log")
        with self._log.open("wb") as log:
            self._making = subprocess.Popen(
                ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, self._part, MIRROR],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, "PATH": PATH},
            )

    def wait(self) -> Path:
        """The tree, ready."""
        if self._part is not None:
            code = self._making.wait()
            assert code == 0, f"debootstrap failed:\n{self._log.read_text()[-3000:]}"
            self._part.chmod(0o755)  # it is the machine's /
            self._part.rename(self.path)
            self._log.unlink()
            self._part = None
        return self.path

    def close(self) -> None:
        if self._part is not None:
            self._making.terminate()
            self._making.wait()
            shutil.rmtree(self._part, ignore_errors=True)
            self._log.unlink(missing_ok=True)


@dataclass
class Machine:
    """A copy of the base, booted. `root` is its file system, seen from here."""

    root: Path
    _nspawn: subprocess.Popen[bytes] = field(init=False)
    _leader: int = field(init=False, default=0)

    @classmethod
    def boot(cls, base: Path) -> Machine:
        root = Path(tempfile.mkdtemp(prefix="excise-machine-", dir="/var/tmp"))
        subprocess.run(["cp", "-a", "--reflink=auto", f"{base}/.", root], check=True)
        (root / "etc/dpkg/dpkg.cfg.d/rig").write_text("force-unsafe-io\n")  # no fsync: nothing here outlives the tests
        made = cls(root)
        with Path(f"{root}.log").open("wb") as log:
            made._nspawn = subprocess.Popen(
                ["systemd-nspawn", "--boot", f"--directory={root}", f"--machine=excise-rig-{os.getpid()}",
                 "--register=no", "--keep-unit", "--private-network", "--capability=all",
                 "--system-call-filter=bpf perf_event_open"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )
        try:
            until(made._has_leader, "the machine's init")
            # "degraded" is up too, with a unit of Debian's that does not like containers
            until(lambda: made.ask("systemctl", "is-system-running") in ("running", "degraded"), "the machine is up")
        except BaseException:
            sys.stderr.write(Path(f"{root}.log").read_text(errors="replace")[-3000:])
            made.close()
            raise
        return made

    def _has_leader(self) -> bool:
        assert self._nspawn.poll() is None, Path(f"{self.root}.log").read_text(errors="replace")[-3000:]
        children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children").read_text().split()
        self._leader = int(children[0]) if children else 0
        return bool(children) and Path(f"/proc/{self._leader}/comm").read_text() == "systemd\n"

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """As root in the machine."""
        done = subprocess.run(
            ["nsenter", f"--target={self._leader}", "--all", "env", "-i", f"PATH={PATH}", "HOME=/root",
             "LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", "SYSTEMD_PAGER=", *command],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=2 * DEADLINE_S,
        )
        said = f"{command}: {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        assert done.returncode == 0 or not check, said
        return done

    def ask(self, *command: str) -> str:
        """What it prints, whatever its exit code."""
        return self.run(*command, check=False).stdout.strip()

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.ask("systemctl", "show", "--value", f"--property={name}", unit)

    def journal(self, unit: str) -> str:
        return self.ask("journalctl", "--no-pager", "--output=cat", f"--unit={unit}")

    def close(self) -> None:
        """Ends it and removes its files."""
        if self._nspawn.poll() is None:
            # nobody waits for an orderly shutdown; without their init all its processes end
            if self._leader:
                os.kill(self._leader, signal.SIGKILL)
            try:
                self._nspawn.wait(30)
            except subprocess.TimeoutExpired:
                self._nspawn.kill()
                self._nspawn.wait()
        shutil.rmtree(self.root, ignore_errors=True)
        Path(f"{self.root}.log").unlink(missing_ok=True)
