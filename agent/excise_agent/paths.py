"""Where Excise's own files lie, from a wheel and from an editable install alike."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
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


def cache_path(uid: int) -> Path:
    """Where that user's cache lies, made or not: systemd's word (CacheDirectory=), then /var/cache/excise for root."""
    named = os.environ.get("CACHE_DIRECTORY", "").split(":")[0]
    if named:
        return Path(named)
    if uid == 0:
        return Path("/var/cache/excise")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "excise"


def cache_dir() -> Path:
    """A folder that only this user can write: root's is /var/cache/excise. It is created 0700 and checked.

    What lies in it (bytecode, compiled kernels) is trusted. Raises PermissionError when another user could have filled
    it or could put another one in its place, and OSError when it cannot be made.
    """
    return own_folder(cache_path(os.geteuid()))


def own_folder(path: Path) -> Path:
    """Makes a folder of this user's, 0700, or checks the one that is there. Returns it without symbolic links.

    Raises as `cache_dir`. For root, and for a service's user, every folder above counts too: who may write there may
    replace this one, but in a sticky folder (/tmp).
    """
    uid = os.geteuid()
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = path.parent.resolve() / path.name
    info = path.lstat()
    if stat.S_ISLNK(info.st_mode) or info.st_uid != uid or info.st_mode & 0o022:
        raise PermissionError(f"{path} may be written by others: remove it, or chmod 0700 and chown it to uid {uid}")
    for above in path.parents if uid == 0 or "CACHE_DIRECTORY" in os.environ else ():
        info = above.stat()
        if info.st_uid not in (0, uid) or (info.st_mode & 0o022 and not info.st_mode & stat.S_ISVTX):
            raise PermissionError(f"{path} may be replaced by others: {above} is not root's alone")
    return path


def temporary_folder(prefix: str) -> Path:
    """A new folder of this user's alone, where no other one can be trusted; the caller removes it. Raises OSError."""
    for above in ("/tmp", "/var/tmp", "/run", "/dev/shm"):  # not TMPDIR: under sudo it may be the caller's
        with contextlib.suppress(OSError):
            return own_folder(Path(tempfile.mkdtemp(prefix=prefix, dir=above)))
    raise PermissionError("no folder for temporary files is writable by this user and safe from others")
