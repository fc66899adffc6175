"""NVML in a thread of its own: a driver that hangs must not hold up the daemon's only loop."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final

from excise_agent.discovery.gpu import DEVICE, GpuPids, GpuProcesses

ROUND_S: Final = 1.0
STOP_S: Final = 1.0


class GpuThread:
    """As `GpuProcesses`, but `pids` gives the last answer there is. No thread where there is no driver."""

    def __init__(self, gpu: GpuProcesses, device: Path = DEVICE, round_s: float = ROUND_S) -> None:
        self._gpu, self._device, self._round_s = gpu, device, round_s
        self._last = GpuPids(reason="not asked yet")
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def pids(self) -> GpuPids:
        """Does not wait."""
        if self._thread is None:
            if not self._device.exists():
                return GpuPids(reason=f"{self._device} is missing: no NVIDIA driver")
            self._thread = threading.Thread(target=self._run, name="nvml", daemon=True)
            self._thread.start()
        return self._last

    def close(self) -> None:
        """Leaves a call that hangs to itself."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(STOP_S)

    def _run(self) -> None:
        while not self._stopping.wait(self._round_s):
            self._last = self._gpu.pids()
        self._gpu.close()
