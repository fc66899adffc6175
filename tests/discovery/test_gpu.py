"""NVML's list of processes, from a module that plays the driver."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fake_host import FakeHost

from excise_agent.discovery import GpuPids, GpuProcesses, GpuThread, nvml_pids


class NvmlError(Exception):
    pass


class FakeNvml:
    NVMLError = NvmlError

    def __init__(self, *devices: list[int] | str) -> None:
        self.devices = devices
        self.started = self.stopped = 0
        self.asked = 0
        self.broken = ""

    def nvmlInit(self) -> None:
        self.started += 1
        if self.broken:
            raise NvmlError(self.broken)

    def nvmlShutdown(self) -> None:
        self.stopped += 1

    def nvmlDeviceGetCount(self) -> int:
        self.asked += 1
        if self.broken:
            raise NvmlError(self.broken)
        return len(self.devices)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetComputeRunningProcesses(self, index: int) -> list[Any]:
        pids = self.devices[index]
        if isinstance(pids, str):
            raise NvmlError(pids)
        return [SimpleNamespace(pid=pid, usedGpuMemory=None) for pid in pids]


def source(
    tmp_path: Path, nvml: Any, driver: bool = True, in_namespace: bool = False
) -> tuple[GpuProcesses, list[float]]:
    device = tmp_path / "nvidiactl"
    if driver:
        device.touch()
    now = [100.0]
    return GpuProcesses(lambda: nvml, device, lambda: now[0], in_namespace), now


def test_the_pids_of_all_devices_are_one_set() -> None:
    assert nvml_pids(FakeNvml([50, 51], [], [51, 52])) == GpuPids(frozenset((50, 51, 52)))


def test_a_device_that_does_not_answer_is_named_and_the_others_count() -> None:
    assert nvml_pids(FakeNvml([50], "GPU is lost")) == GpuPids(frozenset((50,)), "NVML: device 1: GPU is lost")


def test_without_a_driver_nothing_is_loaded_and_the_reason_says_so(tmp_path: Path) -> None:
    nvml = FakeNvml([50])
    answer = source(tmp_path, nvml, driver=False)[0].pids()
    assert answer.pids == frozenset() and "no NVIDIA driver" in answer.reason and not nvml.started


def test_in_a_pid_namespace_the_hosts_numbers_are_not_used(tmp_path: Path) -> None:
    nvml = FakeNvml([50])
    answer = source(tmp_path, nvml, in_namespace=True)[0].pids()
    assert answer.pids == frozenset() and "pid namespace" in answer.reason and not nvml.started


def test_a_module_that_is_not_there_is_a_reason(tmp_path: Path) -> None:
    gpu, _ = source(tmp_path, None)
    gpu._load = lambda: __import__("pynvml_is_not_here")
    assert "pynvml cannot be imported" in gpu.pids().reason


def test_it_is_asked_every_few_seconds_and_initialised_once(tmp_path: Path) -> None:
    nvml = FakeNvml([50])
    gpu, now = source(tmp_path, nvml)
    for _ in range(20):
        assert gpu.pids().pids == {50}
        now[0] += 1.0
    assert (nvml.asked, nvml.started, nvml.stopped) == (4, 1, 0)
    gpu.close()
    assert nvml.stopped == 1


def test_a_driver_that_breaks_is_begun_anew(tmp_path: Path) -> None:
    nvml = FakeNvml([50])
    gpu, now = source(tmp_path, nvml)
    gpu.pids()
    nvml.broken = "Driver/library version mismatch"
    now[0] += 10
    assert gpu.pids() == GpuPids(reason="NVML: Driver/library version mismatch")
    now[0] += 10
    assert gpu.pids() == GpuPids(reason="nvmlInit: Driver/library version mismatch")
    nvml.broken = ""
    now[0] += 10
    assert gpu.pids().pids == {50} and nvml.stopped == 1


def test_a_process_that_holds_a_context_is_found(host: FakeHost, tmp_path: Path) -> None:
    host.add(50)
    host.add(51)
    gpu, _ = source(tmp_path, FakeNvml([50, 4711]))
    [found] = host.look(host.discovery(gpu=gpu)).found
    assert (found.pid, found.why) == (50, "holds a CUDA context (NVML)")


def test_a_driver_that_hangs_holds_nobody_up(tmp_path: Path) -> None:
    device, hangs, asked = tmp_path / "nvidiactl", threading.Event(), threading.Event()
    device.touch()

    class Hanging(FakeNvml):
        def nvmlDeviceGetCount(self) -> int:
            if self.asked:
                asked.set()
                hangs.wait()
            return super().nvmlDeviceGetCount()

    now = [0.0]
    gpu = GpuProcesses(lambda: Hanging([50]), device, lambda: now[0], in_namespace=False)
    thread = GpuThread(gpu, device, round_s=0.01)
    deadline = time.monotonic() + 60
    while not thread.pids().pids and time.monotonic() < deadline:
        time.sleep(0.01)
    now[0] += 3600.0
    assert asked.wait(60) and thread.pids() == GpuPids(frozenset((50,)))
    hangs.set()
    thread.close()


def test_without_a_driver_there_is_no_thread(tmp_path: Path) -> None:
    before = threading.active_count()
    thread = GpuThread(GpuProcesses(device=tmp_path / "none", in_namespace=False), tmp_path / "none")
    assert "no NVIDIA driver" in thread.pids().reason and threading.active_count() == before
    thread.close()
