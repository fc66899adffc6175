"""The doors through which capability checks see the host, so that tests can build another one."""

from __future__ import annotations

import ctypes
import errno
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from excise_agent import bpf
from excise_agent.kernel_names import KernelNames

_RETURN_0: Final = bytes.fromhex("b700000000000000 9500000000000000")  # r0 = 0; exit
_PERF_HARDWARE_CYCLES: Final = (0, 0)


def _why(error: OSError) -> str:
    name = errno.errorcode.get(error.errno or 0, "")
    return f"{name}: {os.strerror(error.errno or 0)}" if name else str(error)


@dataclass(frozen=True)
class Doors:
    """Questions to the host. Those that try something give "" when it worked, else why it did not."""

    root: Path
    uid: int

    def text(self, path: str) -> str | None:
        """A small file, without the blanks around it. None: not there or not readable."""
        try:
            with (self.root / path.lstrip("/")).open("rb") as file:
                return file.read(1 << 16).decode("utf-8", "replace").strip()
        except OSError:
            return None

    def exists(self, path: str) -> bool:
        return (self.root / path.lstrip("/")).exists()

    def link(self, path: str) -> str:
        try:
            return str((self.root / path.lstrip("/")).readlink())
        except OSError:
            return ""

    def owner(self, pid: int) -> int | None:
        """The user that a process runs as."""
        try:
            return (self.root / f"proc/{pid}").stat().st_uid
        except OSError:
            return None

    def glob(self, folder: str, pattern: str) -> list[str]:
        return sorted(f"{folder}/{p.name}" for p in (self.root / folder.lstrip("/")).glob(pattern))

    def writable(self, path: Path) -> bool:
        """Whether we may make files there, or make the folder itself."""
        while not path.exists() and path != path.parent:
            path = path.parent
        return os.access(path, os.W_OK | os.X_OK)

    def release(self) -> str:
        return platform.release()

    def machine(self) -> str:
        return platform.machine()

    def which(self, program: str) -> str:
        """Also beside our interpreter: a virtual environment need not be activated."""
        return shutil.which(program) or shutil.which(program, path=str(Path(sys.executable).parent)) or ""

    def version_of(self, distribution: str) -> str:
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            return ""

    def package_dir(self, module: str) -> Path | None:
        """Where a package would be imported from; it is not imported (bcc alone maps 61 MB)."""
        try:
            spec = importlib.util.find_spec(module)
        except (ImportError, ValueError):
            return None
        return Path(spec.origin).parent if spec is not None and spec.origin else None

    def try_bpf(self) -> str:
        return self._try_program(bpf.PROG_RAW_TRACEPOINT)

    def try_ring_buffer(self) -> str:
        try:
            bpf.Map.create("excise_doctor", bpf.MAP_RINGBUF, 0, 0, 4096, 0).close()
        except OSError as error:
            return _why(error)
        return ""

    def try_raw_tracepoint(self) -> str:
        """An empty program on sched_switch, for an instant."""
        return self._try_program(
            bpf.PROG_RAW_TRACEPOINT, lambda fd: bpf.attach_raw_tracepoint("sched_switch", fd)
        )

    def try_timer(self) -> str:
        return self._try_program(bpf.PROG_PERF_EVENT, lambda fd: bpf.open_cpu_clock(0, 10_000_000, fd))

    def try_kernel_names(self) -> str:
        """Whether the kernel names its own functions where kallsyms hides them."""
        try:
            KernelNames().close()
        except OSError as error:
            return _why(error)
        return ""

    def try_cycles(self) -> str:
        """A hardware counter on ourselves, user mode only."""
        attr = bytearray(136)
        kind, config = _PERF_HARDWARE_CYCLES
        struct.pack_into("<IIQQQQQ", attr, 0, kind, len(attr), config, 0, 0, 0, 1 | 1 << 5 | 1 << 6)
        buffer = (ctypes.c_char * len(attr)).from_buffer(attr)
        try:
            os.close(bpf.perf_event_open(ctypes.addressof(buffer), 0, -1))
        except OSError as error:
            return _why(error)
        return ""

    def try_target(self, pid: int) -> str:
        """Reads one byte of a process's memory."""
        try:
            with Path(f"/proc/{pid}/maps").open("rb") as lines:
                start = next(
                    (int(x.split(b"-")[0], 16) for x in lines if x.split()[1].startswith(b"r")), None
                )
            if start is None:
                return "it has no memory (a kernel thread)"
            with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
                memory.seek(start)
                memory.read(1)
        except OSError as error:
            return _why(error)
        return ""

    def try_nvml(self) -> tuple[str, str]:
        """(what was found, why not)."""
        try:
            import pynvml
        except ImportError as error:
            return "", f"pynvml cannot be imported: {error}"
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            return "", f"nvmlInit: {error}"
        try:
            devices = int(pynvml.nvmlDeviceGetCount())
            return f"driver {pynvml.nvmlSystemGetDriverVersion()}, {devices} device(s)", ""
        except pynvml.NVMLError as error:
            return "", f"NVML: {error}"
        finally:
            pynvml.nvmlShutdown()

    def _try_program(self, kind: int, attach: Callable[[int], int] | None = None) -> str:
        try:
            fd = bpf.load_program("excise_doctor", kind, _RETURN_0)
        except OSError as error:
            return _why(error)
        try:
            if attach is not None:
                os.close(attach(fd))
        except OSError as error:
            return _why(error)
        finally:
            os.close(fd)
        return ""
