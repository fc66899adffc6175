"""Where numba keeps its compiled code."""

from __future__ import annotations

import os

from excise_agent.paths import cache_dir


def pin_numba_cache() -> None:
    """Sets NUMBA_CACHE_DIR to a folder that only this user writes; without one, nothing is cached by numba here."""
    try:
        path = cache_dir() / "numba"
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError:
        os.environ.pop("NUMBA_CACHE_DIR", None)
        return
    os.environ["NUMBA_CACHE_DIR"] = str(path)
