"""Compiled kernels come from a folder that nobody else can write, made for this CPU and these sources."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from excise_agent import _numba_cache
from excise_agent._numba_cache import KEPT_FOLDERS, compiled_kernels, pin_numba_cache
from excise_agent.paths import own_folder

ROOT = os.geteuid() == 0
CPUINFO = """processor	: 0
vendor_id	: GenuineIntel
cpu family	: 6
model		: 143
model name	: Intel(R) Xeon(R) Platinum 8481C
stepping	: 8
cpu MHz		: 2699.998
flags		: fpu sse sse2 avx avx2 avx512f
bogomips	: 5399.99

processor	: 1
flags		: fpu sse
"""


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The cache of this test: root's and a user's alike are `tmp_path`/excise."""
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path / "excise"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/nowhere")  # what it sets is taken back after the test
    monkeypatch.setenv("NUMBA_CACHE_LOCATOR_CLASSES", "")
    return tmp_path / "excise"


def pinned(cpuinfo: Path = Path("/proc/cpuinfo")) -> Path:
    pin_numba_cache(cpuinfo)
    return Path(os.environ["NUMBA_CACHE_DIR"])


def import_kernels() -> list[str]:
    """What was said around it."""
    said: list[str] = []
    with compiled_kernels(said.append):
        pass
    return said


def test_a_callers_folder_is_ignored_and_ours_is_private(environment: Path) -> None:
    folder = pinned()
    assert folder.parent == environment
    for path in (folder, environment):
        assert path.stat().st_uid == os.geteuid() and stat.S_IMODE(path.stat().st_mode) == 0o700


def test_root_takes_no_word_on_numba_from_its_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    monkeypatch.setenv("NUMBA_CACHE_LOCATOR_CLASSES", "their.Class")
    pin_numba_cache()
    assert ("NUMBA_DISABLE_JIT" in os.environ) is not ROOT
    assert os.environ["NUMBA_CACHE_LOCATOR_CLASSES"] == ("" if ROOT else "their.Class")


@pytest.mark.parametrize("change", [
    ("Platinum 8481C", "Gold 6130"), ("avx512f", "avx512f avx512_bf16"), ("stepping	: 8", "stepping	: 7")])
def test_another_cpu_has_another_folder_and_its_return_the_first(tmp_path: Path, change: tuple[str, str]) -> None:
    here, there, same = tmp_path / "here", tmp_path / "there", tmp_path / "same"
    here.write_text(CPUINFO)
    there.write_text(CPUINFO.replace(*change))
    # busier, and a CPU offline
    same.write_text(CPUINFO.replace("2699.998", "3100.5").replace("flags		: fpu sse\n", ""))
    first = pinned(here)
    assert import_kernels() == ["compiling (once per machine)..."]
    assert import_kernels() == []
    assert pinned(there) != first
    assert import_kernels() == ["compiling (once per machine)..."]  # code for the first CPU is out of reach
    assert pinned(same) == first
    assert import_kernels() == []


def test_a_changed_kernel_has_another_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kernel, other = tmp_path / "kernel.py", tmp_path / "other.py"
    kernel.write_text("@nb.njit\ndef f(): return 1")
    other.write_text("x = 1")
    monkeypatch.setattr(_numba_cache, "_sources", lambda: [kernel, other])
    first = pinned()
    other.write_text("x = 2")
    assert pinned() == first
    kernel.write_text("@nb.njit\ndef f(): return 2")
    assert pinned() != first


def test_the_folders_that_were_used_last_are_kept(tmp_path: Path) -> None:
    used = []
    for i in range(KEPT_FOLDERS + 3):
        (tmp_path / "cpuinfo").write_text(CPUINFO.replace("8481C", f"{i}"))
        used.append(pinned(tmp_path / "cpuinfo"))
        os.utime(used[-1], (i, i))
        import_kernels()
        os.utime(used[-1], (i, i))  # a file in it was made
    assert [f for f in used if f.exists()] == used[-KEPT_FOLDERS:]


def make_writable(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o770)


def make_world_writable(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)


def make_link(folder: Path) -> None:
    real = folder.with_name("theirs")
    real.mkdir(mode=0o700)
    folder.symlink_to(real)


def make_file(folder: Path) -> None:
    folder.write_text("")


@pytest.mark.parametrize("make", [make_writable, make_world_writable, make_link, make_file])
def test_a_folder_that_others_may_have_filled_is_not_used(environment: Path, make: object) -> None:
    make(environment)  # type: ignore[operator]
    folder = pinned()
    assert environment not in (folder, *folder.parents) and not folder.is_relative_to(environment.resolve())
    assert folder.stat().st_uid == os.geteuid() and stat.S_IMODE(folder.stat().st_mode) == 0o700
    said, = import_kernels()
    assert said.startswith("compiling (each time: ") and str(environment) in said
    assert import_kernels() == [said]


def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    folder = Path("/usr")
    if ROOT:
        folder = tmp_path / "theirs"
        folder.mkdir(mode=0o700)
        os.chown(folder, 12345, 0)
    with pytest.raises(PermissionError, match="may be written by others"):
        own_folder(folder)


def test_for_root_a_folder_below_one_of_another_user_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "home" / "cache"
    folder.parent.mkdir()
    folder.parent.chmod(0o777)
    if not ROOT:
        assert own_folder(folder) == folder
        return
    with pytest.raises(PermissionError, match="may be replaced by others"):
        own_folder(folder)
    folder.parent.chmod(0o1777)  # as /tmp
    assert own_folder(folder) == folder
    os.chown(folder.parent, 12345, 0)
    with pytest.raises(PermissionError, match="may be replaced by others"):
        own_folder(folder)


def test_the_folder_of_one_run_is_gone_after_it(environment: Path) -> None:
    make_world_writable(environment)
    script = ("from excise_agent._numba_cache import pin_numba_cache; pin_numba_cache()\n"
              "import os; print(os.environ['NUMBA_CACHE_DIR'], os.path.isdir(os.environ['NUMBA_CACHE_DIR']))")
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert out[1] == "True" and not Path(out[0]).exists()


KERNEL = """
import numba as nb
@nb.njit("i8(i8)", cache=True)
def f(x): return x * 3
"""
ASK = ("import json, kernel; s = kernel.f.stats;"
       "print(json.dumps([sum(s.cache_hits.values()), sum(s.cache_misses.values())]))")


def test_numba_itself_does_not_run_code_of_another_cpu(tmp_path: Path) -> None:
    (tmp_path / "kernel.py").write_text(KERNEL)

    def hits_and_misses(**more: str) -> list[int]:
        done = subprocess.run(
            [sys.executable, "-c", ASK], cwd=tmp_path, capture_output=True, text=True, check=True,
            env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "numba"), "PYTHONPATH": str(tmp_path), **more})
        found: list[int] = json.loads(done.stdout)
        return found

    other = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    assert [hits_and_misses(), hits_and_misses()] == [[0, 1], [1, 0]]
    assert [hits_and_misses(**other), hits_and_misses(**other), hits_and_misses()] == [[0, 1], [1, 0], [1, 0]]
