"""Where Excise's own files lie, from a wheel and from an editable install alike."""

from __future__ import annotations

import os
from pathlib import Path


def probes_dir() -> Path:
    """The folder of the probes' C sources.

    Raises FileNotFoundError when the installation is incomplete.
    """
    here = Path(__file__).resolve().parent
    for candidate in (here / "probes", here.parent.parent / "probes"):
        if (candidate / "bpf" / "excise.bpf.c").is_file():
            return candidate
    raise FileNotFoundError(f"the probes' sources are missing beside {here}: reinstall excise")


def cache_dir() -> Path:
    """A folder that only this user can write: root's is /var/cache/excise. It is created 0700 and checked.

    What lies in it (bytecode, compiled kernels) is trusted, so a folder that another user could have filled is refused.
    """
    if os.geteuid() == 0:
        path = Path(os.environ.get("CACHE_DIRECTORY", "/var/cache/excise").split(":")[0])
    else:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        path = Path(base) / "excise"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    info = path.lstat()
    if path.is_symlink() or info.st_uid != os.geteuid() or info.st_mode & 0o022:
        raise PermissionError(
            f"{path} may be written by others: remove it, or chmod 0700 and chown it to uid {os.geteuid()}"
        )
    return path
