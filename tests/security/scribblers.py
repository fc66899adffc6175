"""Starts targets/scribbler.py and tells it where to write."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from excise_agent.cpython import Interpreter, Memory, detect, thread_states

TARGETS = Path(__file__).parent / "targets"
MODES = ("random", "cycle", "flood", "lists")
_NONE = (1 << 64) - 1


def build_library(folder: Path) -> Path:
    library = folder / "scribble.so"
    subprocess.run(["gcc", "-O1", "-g", "-shared", "-fPIC", "-o", library, TARGETS / "scribble.c"], check=True)
    return library


class Scribbler:
    """Not scribbling until `begin`."""

    def __init__(self, python: str, library: Path) -> None:
        self.process = subprocess.Popen([python, str(TARGETS / "scribbler.py"), str(library)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.code = int(self.process.stdout.readline())

    @property
    def pid(self) -> int:
        return self.process.pid

    def begin(self, mode: str, start: int) -> None:
        found = detect(self.pid)
        assert isinstance(found, Interpreter), found
        with Memory(self.pid) as memory:
            tstate = thread_states(memory, found)[self.pid]
            interp = memory.read_u64(tstate + found.layout.ts_interp)
        o = found.layout
        plan = [
            tstate, interp, found.runtime_addr, found.code_type, self.code, o.ts_frame, o.cframe_frame,
            o.ts_next, o.ts_interp, o.is_threads_head, o.is_next, o.runtime_interpreters_head,
            o.f_code, o.f_back, o.f_instr, o.f_owner,
            o.co_firstlineno, o.co_linetable, o.co_qualname, o.co_filename, o.co_code_adaptive or 0,
            o.str_length, o.str_state, o.str_data, o.bytes_size, o.bytes_data, o.ob_type,
        ]
        told = {"plan": [_NONE if value is None else value for value in plan], "mode": MODES.index(mode),
                "start": start}
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(told) + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "scribbling\n"

    def alive(self) -> bool:
        return self.process.poll() is None

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()
