"""Child process: compiles the probes with bcc and writes the bytecode to standard output as msgpack.

Short-lived on purpose: bcc brings LLVM (130 MB), which the agent itself then never maps. Standard error carries the
compiler's words when it fails.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import Any

import msgpack

from excise_agent.btf import Btf
from excise_agent.paths import probes_dir

PROGRAMS = ("on_cpu", "on_switch", "on_waking", "on_wakeup", "on_wakeup_new", "on_fork", "on_exec", "on_exit")

_OFFSETS = {
    "OFF_FSBASE": "task_struct.thread.fsbase",
    "OFF_TASK_PID": "task_struct.pid",
    "OFF_TASK_TGID": "task_struct.tgid",
    "OFF_TASK_LEADER": "task_struct.group_leader",
    "OFF_TASK_THREAD_PID": "task_struct.thread_pid",
    "OFF_PID_LEVEL": "pid.level",
    "OFF_PID_NUMBERS": "pid.numbers",
    "OFF_PIDNS_INUM": "pid_namespace.ns.inum",
    "OFF_SUM_EXEC": "task_struct.se.sum_exec_runtime",
    "OFF_RUN_DELAY": "task_struct.sched_info.run_delay",
    "OFF_TASK_FILES": "task_struct.files",
    "OFF_FILES_FDT": "files_struct.fdt",
    "OFF_FDT_MAX": "fdtable.max_fds",
    "OFF_FDT_FD": "fdtable.fd",
    "OFF_FILE_INODE": "file.f_inode",
    "OFF_FILE_PRIVATE": "file.private_data",
    "OFF_INODE_MODE": "inode.i_mode",
    "OFF_INODE_RDEV": "inode.i_rdev",
    "OFF_SOCKET_SK": "socket.sk",
    "OFF_SK_FAMILY": "sock.__sk_common.skc_family",
    "OFF_SK_NUM": "sock.__sk_common.skc_num",
    "OFF_SK_STATE": "sock.__sk_common.skc_state",
}


def kernel_defines(btf: Btf) -> dict[str, int]:
    """What the probes must know of this kernel."""
    defines = {name: btf.offset(path) for name, path in _OFFSETS.items()}
    state = "task_struct.__state" if btf.has("task_struct.__state") else "task_struct.state"
    defines["OFF_TASK_STATE"] = btf.offset(state)
    release = tuple(int(x) for x in os.uname().release.split("-")[0].split(".")[:2])
    defines["HAVE_PREV_STATE"] = int(release >= (5, 18))
    return defines


TYPED_HOOKS = {"on_switch": "sched_switch", "on_waking": "sched_waking", "on_wakeup": "sched_wakeup"}
"""Programs that may be loaded with the kernel's types, and their tracepoints: the ones that every switch runs."""


def module_text(source: Path, seen: set[Path] | None = None) -> str:
    """The module with its own *.bpf.h in place: bcc rewrites map calls in the main file only."""
    seen = set() if seen is None else seen
    out = [f'#line 1 "{source.name}"']
    for number, line in enumerate(source.read_text().splitlines(), 2):
        name = line.removeprefix('#include "').removesuffix('"')
        if name == line or not name.endswith(".bpf.h"):
            out.append(line)
            continue
        header = source.parent / name
        if header not in seen:
            seen.add(header)
            out.append(module_text(header, seen))
        out.append(f'#line {number} "{source.name}"')
    return "\n".join(out) + "\n"


def compile_probes(defines: dict[str, int]) -> dict[str, Any]:
    """Bytecode by program and attributes by map; map descriptors in the code are replaced by indices into `maps`."""
    probes = probes_dir()
    os.environ["BCC_KERNEL_SOURCE"] = str(probes / "include" / "shim")
    import bcc

    btf = Btf.of_kernel()
    flags = [f"-I{probes / 'include'}"]
    flags += [f"-D{k}={v}" for k, v in {**kernel_defines(btf), **defines}.items()]
    module = bcc.BPF(text=module_text(probes / "bpf" / "excise.bpf.c"), cflags=flags)
    lib = bcc.libbcc.lib
    lib.bpf_table_name.restype = ctypes.c_char_p
    lib.bpf_table_max_entries_id.restype = ctypes.c_size_t
    maps: list[dict[str, Any]] = []
    fds: dict[int, int] = {}
    for i in range(lib.bpf_num_tables(module.module)):
        fds[lib.bpf_table_fd_id(module.module, i)] = len(maps)
        maps.append({
            "name": lib.bpf_table_name(module.module, i).decode(),
            "type": lib.bpf_table_type_id(module.module, i),
            "key_size": lib.bpf_table_key_size_id(module.module, i),
            "value_size": lib.bpf_table_leaf_size_id(module.module, i),
            "max_entries": lib.bpf_table_max_entries_id(module.module, i),
            "flags": lib.bpf_table_flags_id(module.module, i),
        })
    programs = {}
    for name in PROGRAMS:
        code = bytearray(module.dump_func(name.encode()))
        refs = []
        for at in range(0, len(code), 8):
            # ld_imm64 with src_reg BPF_PSEUDO_MAP_FD
            if code[at] == 0x18 and code[at + 1] >> 4 == 1:
                fd = int.from_bytes(code[at + 4 : at + 8], "little", signed=True)
                refs.append((at, fds[fd]))
        hook = TYPED_HOOKS.get(name) if defines.get("TYPED") else None
        programs[name] = {"code": bytes(code), "maps": refs, "type_id": btf.tracepoint(hook) if hook else 0}
    return {"programs": programs, "maps": maps, "bcc": getattr(bcc, "__version__", "")}


def main() -> int:
    """Arguments: NAME=VALUE defines."""
    defines = {k: int(v) for k, v in (a.split("=", 1) for a in sys.argv[1:])}
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # bcc prints to standard output
    out.write(msgpack.packb(compile_probes(defines)))
    out.close()
    return 0


if __name__ == "__main__":
    Path("/proc/self/oom_score_adj").write_text("500")
    sys.exit(main())
