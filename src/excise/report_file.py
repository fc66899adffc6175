"""Opens a file for a report. Root may write one to /tmp, where somebody may have put a link of that name.

Unlike a recording (output_file.py) a report goes wherever its user leads it: /dev/stdout, a pipe of the shell, a link
of his own. So links are followed, but for what others may have put there. These are the rules of the kernel's
fs.protected_symlinks, protected_regular, protected_fifos and protected_hardlinks, which are off on some hosts.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

_FLAGS: Final = os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY


def open_report(path: Path) -> int:
    """A descriptor of an empty file, a pipe or a device. Raises OSError; its `strerror` is half a sentence."""
    try:
        return os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        found = path.lstat()
    if why := _objection(found, path.parent.stat()):
        raise PermissionError(0, why, str(path))
    if stat.S_ISLNK(found.st_mode):
        return os.open(path, _FLAGS | os.O_CREAT | os.O_TRUNC, 0o666)
    fd = os.open(path, _FLAGS | os.O_NOFOLLOW)
    opened = os.fstat(fd)
    if (opened.st_dev, opened.st_ino) != (found.st_dev, found.st_ino):
        os.close(fd)
        raise PermissionError(0, "somebody has just put another file there", str(path))
    if stat.S_ISREG(opened.st_mode):
        os.ftruncate(fd, 0)
    return fd


def _objection(found: os.stat_result, folder: os.stat_result) -> str:
    if not folder.st_mode & 0o022:
        return ""
    way_out = "in a folder that others can write to: remove it, or name another file"
    if found.st_uid not in (0, os.geteuid(), folder.st_uid):
        return f"it is user {found.st_uid}'s, {way_out}"
    if stat.S_ISLNK(found.st_mode) and not folder.st_mode & stat.S_ISVTX:
        return f"it is a link, {way_out}"
    if stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
        return f"it has other names (hard links), {way_out}"
    return ""
