"""Excise as the service's user would run it: no root, some capabilities, a cache of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from excise_agent._numba_cache import pin_numba_cache
from excise_agent.paths import cache_dir

AGENT_UID, TARGET_UID = 61001, 61002  # of nobody, unless a machine has 61000 users
ROOT = Path(__file__).parents[2]
SET = ("bpf", "perfmon", "sys_ptrace", "dac_read_search", "checkpoint_restore")
DEADLINE_S = 120


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/capabilities/" in str(item.path):
            item.add_marker(pytest.mark.bpf)


class Sandbox:
    """A folder that everybody may enter: pytest's own is root's alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cache = folder / "cache"
        self.out = folder / "out"

    def run(self, capabilities: tuple[str, ...], *arguments: str, cwd: str = "/") -> subprocess.CompletedProcess[str]:
        """`excise ARGUMENTS` with exactly these capabilities, as an unprivileged user, without new privileges."""
        held = ",".join(("-all", *(f"+{name}" for name in capabilities)))
        python = Path(sys.prefix)
        command = [
            "unshare", "--mount", "sh", "-c", f'{self._open_the_way((ROOT, python))} exec "$@"', "sh",
            "setpriv", f"--reuid={AGENT_UID}", f"--regid={AGENT_UID}", "--clear-groups", f"--inh-caps={held}",
            f"--ambient-caps={held}", f"--bounding-set={held}", "--no-new-privs", "--reset-env", "env",
            f"CACHE_DIRECTORY={self.cache}", f"PYTHONPATH={ROOT}/src:{ROOT}/agent",
            "PYTHONDONTWRITEBYTECODE=1", f"{python}/bin/python", "-P", "-m", "excise_agent.cli", *arguments,
        ]
        return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False, cwd=cwd)

    def _open_the_way(self, places: tuple[Path, ...]) -> str:
        """Shell commands, for a mount namespace of its own: places below a closed folder (/root) are put into an open
        one of the same name. Numba knows compiled code by the source's path, so it must not change."""
        closed = {place: _closed_above(place) for place in places}
        views, opened, back = [], [], []
        for i, (place, above) in enumerate(closed.items()):
            if above is not None:
                view = self.folder / f"view{i}"
                view.mkdir(exist_ok=True)
                views.append(f"mount --bind {place} {view} &&")
                back.append(f"mkdir -p {place} && mount --bind {view} {place} &&")
        opened = [f"mount -t tmpfs -o mode=0755 tmpfs {above} &&" for above in {*closed.values()} - {None}]
        return " ".join((*views, *opened, *back))


def _closed_above(path: Path) -> Path | None:
    return next((above for above in reversed(path.parents) if not above.stat().st_mode & 0o001), None)


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    folder = Path(tempfile.mkdtemp(prefix="excise-capabilities-"))
    folder.chmod(0o755)
    made = Sandbox(folder)
    # what root has compiled, as the package's installation gives it to the service
    pin_numba_cache()
    made.out.mkdir()
    shutil.copytree(cache_dir(), made.cache, ignore=shutil.ignore_patterns("agent"))
    for path in (made.out, made.cache, *made.cache.rglob("*")):
        os.chown(path, AGENT_UID, AGENT_UID)
    made.cache.chmod(0o700)
    yield made
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def target(sandbox: Sandbox) -> Iterator[int]:
    """The pid of tests/targets/closed_home.py, run by another user."""
    built = sandbox.folder / "built"
    built.mkdir()
    for name in ("closed", "deleted"):
        source = built / f"{name}.c"
        source.write_text(
            f"static void __attribute__((noinline)) in_the_{name}_one(void)"
            '{ for (volatile int i = 0; i < 3000000; i++) __asm__ volatile(""); }\n'
            "void spin(void) { in_the_" + name + "_one(); }\n"
        )
        subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-o", built / f"lib{name}.so", source], check=True)
    homes = sandbox.folder / "homes"
    homes.mkdir()
    os.chown(homes, TARGET_UID, TARGET_UID)
    script = sandbox.folder / "closed_home.py"
    shutil.copyfile(ROOT / "tests/targets/closed_home.py", script)
    drop = ["setpriv", f"--reuid={TARGET_UID}", f"--regid={TARGET_UID}", "--clear-groups", "--bounding-set=-all"]
    command = [*drop, "/usr/bin/python3", "-I", str(script), str(homes / "home"), str(built)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process.pid
        process.kill()
