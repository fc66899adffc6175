"""Finds the processes that are to be watched. See docs/discovery.md."""

from excise_agent.discovery.changes import Changes, Found, Identity
from excise_agent.discovery.discovery import Discovery, DiscoveryCounts
from excise_agent.discovery.gpu import GpuPids, GpuProcesses, nvml_pids
from excise_agent.discovery.gpu_thread import GpuThread

__all__ = ["Changes", "Discovery", "DiscoveryCounts", "Found", "GpuPids", "GpuProcesses", "GpuThread",
           "Identity", "nvml_pids"]
