"""Processes that hold a CUDA context, as the driver says (NVML)."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from excise_agent.loader import pid_namespace

REST_S: Final = 5.0
REST_PER_COST: Final = 5000.0  # 0.02 % of the time: a call takes milliseconds when a device sleeps
DEVICE: Final = Path("/dev/nvidiactl")


@dataclass(frozen=True, slots=True)
class GpuPids:
    pids: frozenset[int] = frozenset()  # the host's
    reason: str = ""  # why there is no answer; "": `pids` is one


def nvml_pids(nvml: Any) -> GpuPids:
    """Asks every device; `nvml` is pynvml, initialised. A device that does not answer is named in the reason."""
    pids: set[int] = set()
    reasons: list[str] = []
    try:
        count = int(nvml.nvmlDeviceGetCount())
    except nvml.NVMLError as error:
        return GpuPids(reason=f"NVML: {error}")
    for index in range(count):
        try:
            device = nvml.nvmlDeviceGetHandleByIndex(index)
            pids.update(int(process.pid) for process in nvml.nvmlDeviceGetComputeRunningProcesses(device))
        except nvml.NVMLError as error:
            reasons.append(f"NVML: device {index}: {error}")
    return GpuPids(frozenset(pids), "; ".join(reasons))


def _import_pynvml() -> Any:
    return importlib.import_module("pynvml")


class GpuProcesses:
    """Asks seldom, and never where there is no driver. NVML stays initialised: to do it each time wakes the devices."""

    def __init__(
        self,
        load: Callable[[], Any] = _import_pynvml,
        device: Path = DEVICE,
        clock: Callable[[], float] = time.monotonic,
        in_namespace: bool | None = None,  # of pids, other than the host's; None: asks
    ) -> None:
        self._in_namespace = pid_namespace()["NS_INO"] != 0 if in_namespace is None else in_namespace
        self._load = load
        self._device = device
        self._clock = clock
        self._nvml: Any = None
        self._next = 0.0
        self._last = GpuPids(reason=f"{device} is missing: no NVIDIA driver")

    def pids(self) -> GpuPids:
        """The last answer, or a new one where it is time."""
        before = self._clock()
        if before >= self._next:
            self._last = self._ask()
            after = self._clock()
            self._next = after + max(REST_S, (after - before) * REST_PER_COST)
        return self._last

    def _ask(self) -> GpuPids:
        if not self._device.exists():
            return GpuPids(reason=f"{self._device} is missing: no NVIDIA driver")
        if self._in_namespace:  # its numbers would be other processes' here
            return GpuPids(reason="NVML counts in the host's pids, and the agent is in a pid namespace of its own")
        if self._nvml is None:
            try:
                nvml = self._load()
            except ImportError as error:
                return GpuPids(reason=f"pynvml cannot be imported: {error}")
            try:
                nvml.nvmlInit()
            except nvml.NVMLError as error:
                return GpuPids(reason=f"nvmlInit: {error}")
            self._nvml = nvml
        answer = nvml_pids(self._nvml)
        if answer.reason and not answer.pids:
            self.close()  # a driver that was unloaded or upgraded: from the start, next time
        return answer

    def close(self) -> None:
        nvml, self._nvml = self._nvml, None
        if nvml is not None:
            try:
                nvml.nvmlShutdown()
            except nvml.NVMLError:
                return  # the driver has gone before us
