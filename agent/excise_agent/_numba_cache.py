"""Where numba keeps its compiled code."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from excise_agent.paths import cache_dir

_KERNELS = ("excise.drain", "excise.ledger.table", "excise.ledger.accumulate")  # files with compiled functions


def pin_numba_cache() -> None:
    """Sets NUMBA_CACHE_DIR to a folder that only this user writes; without one, nothing is cached by numba here."""
    try:
        path = cache_dir() / "numba"
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError:
        os.environ.pop("NUMBA_CACHE_DIR", None)
        return
    os.environ["NUMBA_CACHE_DIR"] = str(path)


@contextlib.contextmanager
def compiled_kernels(notice: Callable[[str], None]) -> Iterator[None]:
    """Around the import of the compiled functions: says so beforehand when numba will compile them (1 to 20 s)."""
    folder = os.environ.get("NUMBA_CACHE_DIR")
    stamp = Path(folder, f"compiled-{_fingerprint()}") if folder else None  # one for each installation
    warm = stamp is not None and stamp.exists()
    if not warm:
        notice("compiling (once per machine)..." if stamp else "compiling (each time: there is no cache folder)...")
    yield
    if stamp is not None and not warm:
        with contextlib.suppress(OSError):
            stamp.touch()


def _fingerprint() -> str:
    """What numba's own cache depends on."""
    sources = []
    for name in _KERNELS:
        spec = find_spec(name)
        source = Path(spec.origin).stat() if spec is not None and spec.origin else None
        sources.append((spec and spec.origin, source and (source.st_size, source.st_mtime_ns)))
    return hashlib.sha256(repr((sys.version, version("numba"), sources)).encode()).hexdigest()[:16]
