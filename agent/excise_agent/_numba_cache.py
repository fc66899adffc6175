"""Where numba keeps its compiled code.

The cache is pickle and machine code: whoever writes it decides what we run. So it lies in a folder that only this user
can write, whatever the environment says, and that is made for this CPU, this numba and these kernels: numba itself
knows a kernel by its own file, and would keep one whose helper in another file has changed.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from excise_agent.paths import cache_dir, own_folder, temporary_folder

KEPT_FOLDERS: Final = 7  # 1-3 MB each: other CPUs of a moved disk, other versions and installations
_CPU_KEYS: Final = frozenset((
    "vendor_id", "cpu family", "model", "model name", "stepping", "flags",
    "CPU implementer", "CPU architecture", "CPU variant", "CPU part", "Features",
))
_CPUINFO_BYTES: Final = 16 << 10  # the first CPU's lines: 2-4 kB
_LAYOUTS: Final = frozenset(("records.py", "names.py", "batch.py", "classes.py"))
_PREFIX: Final = "numba-"

_refused: str = ""  # why there is no lasting cache


def pin_numba_cache(cpuinfo: Path = Path("/proc/cpuinfo")) -> None:
    """Sets NUMBA_CACHE_DIR, before numba is imported. Without a folder to trust: one for this run alone.

    For root all other NUMBA_ variables go: sudo may pass the caller's on, and some name code to be run. So do a
    .numba_config.yaml's words on the cache, in whatever folder we were started.
    """
    global _refused
    if os.geteuid() == 0:
        for name in [name for name in os.environ if name.startswith("NUMBA_")]:
            del os.environ[name]
        os.environ["NUMBA_CACHE_LOCATOR_CLASSES"] = ""
    try:
        path = own_folder(cache_dir() / f"{_PREFIX}{_fingerprint(cpuinfo)}")
        os.utime(path)  # its last use
        _refused = ""
    except OSError as err:
        _refused = str(err)
        path = temporary_folder(_PREFIX)
        atexit.register(shutil.rmtree, path, ignore_errors=True)
    os.environ["NUMBA_CACHE_DIR"] = str(path)


@contextlib.contextmanager
def compiled_kernels(notice: Callable[[str], None]) -> Iterator[None]:
    """Around the import of the compiled functions: says so beforehand when numba will compile them (1 to 20 s)."""
    folder = Path(os.environ["NUMBA_CACHE_DIR"])
    stamp = folder / f"compiled-{hashlib.sha256(str(_sources()).encode()).hexdigest()[:16]}"  # one an installation
    warm = stamp.exists()
    if not warm:
        notice(f"compiling (each time: {_refused})..." if _refused else "compiling (once per machine)...")
    yield
    if not warm and not _refused:
        with contextlib.suppress(OSError):
            stamp.touch()
            _prune(folder)


def _prune(used: Path) -> None:
    """Removes the folders that were not used for longest."""
    folders = [f for f in used.parent.glob("numba*") if f.is_dir() and not f.is_symlink() and f != used]
    for old in sorted(folders, key=lambda f: f.stat().st_mtime)[: -(KEPT_FOLDERS - 1)]:
        shutil.rmtree(old, ignore_errors=True)


def _fingerprint(cpuinfo: Path) -> str:
    """Of what the compiled code depends on: CPU, Python, numba, and the text of all files with kernels."""
    digest = hashlib.sha256(repr((_cpu(cpuinfo), sys.version, version("numba"), version("llvmlite"))).encode())
    for source in _sources():
        text = source.read_bytes()  # numba itself looks at a kernel's own file only, not at the layouts that it uses
        if b"njit" in text or b"@kernel" in text or source.name in _LAYOUTS:
            digest.update(text)
    return digest.hexdigest()[:16]


def _cpu(cpuinfo: Path) -> list[str]:
    """The first CPU's model and features; none where they cannot be read (numba's own index knows them too)."""
    try:
        with cpuinfo.open(errors="replace") as file:
            first = file.read(_CPUINFO_BYTES).partition("\n\n")[0]
    except OSError:
        return []
    return [line for line in first.splitlines() if line.partition(":")[0].strip() in _CPU_KEYS]


def _sources() -> list[Path]:
    """Where kernels may stand: excise's modules, and ours."""
    folders = [Path(spec.origin).parent for name in ("excise", "excise_agent")
               if (spec := find_spec(name)) is not None and spec.origin]
    return [source for folder in folders for source in sorted(folder.rglob("*.py"))]
