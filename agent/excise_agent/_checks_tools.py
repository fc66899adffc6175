"""Checks of what is installed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from excise_agent._check import Check
from excise_agent._doors import Doors
from excise_agent.paths import cache_path

_LIBRARY_DIRS: Final = (
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/usr/local/lib",
    "/usr/local/lib64",
)
_DISTRIBUTION_BCC: Final = (
    ("/usr/lib/python3/dist-packages", "bcc"),
    ("/usr/lib", "python3*/site-packages/bcc"),
)
_PACKAGES: Final = (
    (("debian", "ubuntu"), "apt install python3-bpfcc"),
    (("fedora", "rhel", "centos"), "dnf install python3-bcc"),
    (("suse", "opensuse"), "zypper install python3-bcc"),
    (("arch",), "pacman -S python-bcc"),
    (("alpine",), "apk add py3-bcc"),
)


def rows(doors: Doors) -> Iterator[Check]:
    yield _compiler(doors)
    yield _probe_cache(doors)
    yield _numba_cache(doors)
    yield _py_spy(doors)
    yield _nvidia(doors)


def install_bcc(doors: Doors) -> str:
    """The command of this distribution."""
    release = doors.text("/etc/os-release") or ""
    words = set(" ".join(re.findall(r'^ID(?:_LIKE)?="?([^"\n]*)', release, re.MULTILINE)).split())
    for names, command in _PACKAGES:
        if words & set(names):
            return command
    return "install your distribution's bcc for Python (python3-bpfcc, python3-bcc)"


def _compiler(doors: Doors) -> Check:
    """bcc, which compiles the probes. PyPI's package of this name is something else."""
    command = install_bcc(doors)
    folder = doors.package_dir("bcc")
    library = next((p for d in _LIBRARY_DIRS for p in doors.glob(d, "libbcc.so*")), "")
    if folder is not None and (folder / "libbcc.py").is_file():
        if library:
            return Check("compiler", "ok", f"bcc {_version(folder)}, {library}")
        why, fix = f"bcc in {folder}, but no libbcc.so", command
    elif folder is not None:
        why, fix = f"{folder} is not the BPF compiler", f"pip uninstall bcc; {command}"
    elif any(path for place in _DISTRIBUTION_BCC for path in doors.glob(*place)):
        why = "bcc is installed, but this interpreter does not see it"
        fix = "make the virtual environment with: /usr/bin/python3 -m venv --system-site-packages"
    else:
        why, fix = "no bcc", command
    if _cached_probes(doors):
        lost = "probes for another kernel or version"
        return Check("compiler", "degraded", f"{why}; compiled probes are cached", lost, fix)
    return Check("compiler", "missing", why, "probes cannot be compiled: only py-spy is left", fix)


def _version(folder: Path) -> str:
    try:
        match = re.search(r"__version__ = '([^']*)'", (folder / "version.py").read_text())
    except OSError:
        match = None
    return match.group(1) if match else "(version unknown)"


def _cached_probes(doors: Doors) -> list[str]:
    return doors.glob(str(cache_path(doors.uid)), "probes-*.msgpack")


def _shown(path: Path) -> str:
    home = str(Path.home())
    return str(path).replace(home, "~", 1) if home != "/" else str(path)


def _probe_cache(doors: Doors) -> Check:
    folder, cached = cache_path(doors.uid), _cached_probes(doors)
    if not doors.writable(folder):
        return Check(
            "probe_cache",
            "degraded",
            f"{_shown(folder)} cannot be written",
            "each start compiles the probes, about 1 s of CPU",
            f"mkdir -m 700 {folder}",
        )
    return Check(
        "probe_cache", "ok", f"{_shown(folder)}, " + ("probes are in it" if cached else "still empty")
    )


def _numba_cache(doors: Doors) -> Check:
    """Compiled kernels lie beside the probes: the cache is pickle, so no folder of the caller's choice is taken."""
    folder = cache_path(doors.uid)
    if not doors.writable(folder):
        return Check(
            "numba_cache",
            "degraded",
            f"{_shown(folder)} cannot be written",
            "each start compiles the kernels, some seconds of CPU",
            f"mkdir -m 700 {folder}",
        )
    warm = doors.glob(str(folder), "numba-*/compiled-*")
    return Check("numba_cache", "ok", f"{_shown(folder)}, " + ("kernels are in it" if warm else "still empty"))


def _py_spy(doors: Doors) -> Check:
    path = doors.which("py-spy")
    if path:
        return Check("py_spy", "ok", f"py-spy {doors.version_of('py-spy')}".strip())
    return Check("py_spy", "missing", "no py-spy", "stacks where BPF is not to be had", "pip install py-spy")


def _nvidia(doors: Doors) -> Check:
    found, why = doors.try_nvml()
    if not why:
        return Check("nvidia", "ok", found)
    driver = doors.text("/proc/driver/nvidia/version")
    if driver or doors.exists("/dev/nvidiactl"):
        return Check(
            "nvidia",
            "error",
            f"a driver is loaded, but {why}",
            "how busy the GPUs are",
            "install the driver's libnvidia-ml.so.1 (in containers: NVIDIA_DRIVER_CAPABILITIES=utility)",
        )
    return Check(
        "nvidia",
        "missing",
        why,
        "how busy the GPUs are; nothing on a host without one",
        "NVIDIA's driver, if there is a GPU",
    )
