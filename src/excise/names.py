"""The words of the ledger: stages, states, drops. Each list stands here and nowhere else.

Order is meaning: the index of a name is its number in records, arrays and recordings.
Append only; a recording names its own lists, so that an old file still reads.
"""

from __future__ import annotations

from typing import Final

STAGES: Final = (
    "data_loading",
    "preprocess",
    "compute",
    "logging",
    "postprocess",
    "serving",
    "runtime",
    "handoff",
    "idle",
    "unattributed",
)
"""What the stack says a thread was doing. The four that users ask for come first."""

SUBSTAGES: Final = ("compute.gpu", "compute.launch", "compute.cpu")

UNATTRIBUTED: Final = ("no_rule", "no_sample", "lost", "no_stack")
"""Why time has no stage: no rule knew the stack; on CPU but never sampled; the record was lost; no stack was walked."""

STATES: Final = (
    "running_user",
    "running_kernel",
    "runnable",
    "gil",
    "lock",
    "io",
    "net",
    "gpu",
    "sleep",
    "stopped",
    "other",
    "stolen",
)
"""What the kernel says a thread was doing. `stolen`: it had a CPU, and the hypervisor gave that to another guest."""

KERNEL_STATES: Final = (
    "running", "runnable", "gil", "lock", "io", "net", "gpu", "sleep", "stopped", "other", "stolen",
)
"""The states as BPF accumulates them: `running` is split into user and kernel by samples, afterwards."""

DROPS: Final = (
    "ring_full",          # a record found no room in the ring buffer
    "threads_untracked",  # a thread found no room in the thread map
    "procs_untracked",    # a process found no room in the process map
    "stack_lost",         # a stack's definition found no room; its records count as no_stack
    "walk_fault",         # a Python walk read memory that was not there, and was cut
    "walk_truncated",     # a Python walk reached the deepest frame that is kept
    "frame_gone",         # a code object was freed before it could be named
    "unknown_record",     # a record of a type that this version does not know
    "exec_gap",           # stacks missed between an exec and the new interpreter being found
    "switch_missed",      # a switch that the kernel did not trace: its time is the scheduler's count, its stack is lost
    "names_full",         # a stack was new when the stream had as many as it may: its time has no stack
)
"""Named losses. Each has a counter that reaches the user under `quality.lost`."""

FD_CLASSES: Final = (
    "none",         # the wait had no descriptor
    "file",         # regular file or directory
    "block",        # block device
    "tty",          # terminal
    "nvidia",       # /dev/nvidia*
    "chardev",      # any other character device
    "pipe",
    "unix",         # unix socket
    "inet",         # TCP or UDP, IPv4 or IPv6, connected or not; `peer` carries the local port
    "listen",       # a listening socket
    "netother",     # any other socket family
    "eventfd",
    "epoll",
    "anon",         # any other anonymous inode (timerfd, signalfd, io_uring)
    "unknown",
)
"""What a descriptor is, read in the kernel (file -> inode -> mode, magic, socket)."""

STAGE_ID: Final = {name: i for i, name in enumerate(STAGES)}
STATE_ID: Final = {name: i for i, name in enumerate(STATES)}
KERNEL_STATE_ID: Final = {name: i for i, name in enumerate(KERNEL_STATES)}
DROP_ID: Final = {name: i for i, name in enumerate(DROPS)}
FD_CLASS_ID: Final = {name: i for i, name in enumerate(FD_CLASSES)}

LEAST_BUDGET_CORES: Final = 0.005
"""What our own cost may be beside a target that uses hardly any CPU, in CPUs: it is still watched."""
