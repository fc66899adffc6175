"""CPython from the outside: which interpreter a process runs, where its frames lie, and what their code is
called.
"""

from __future__ import annotations

from excise_agent.cpython.code import CodeInfo, code_key, read_code
from excise_agent.cpython.detect import Detected, NotPython, Unsupported, detect
from excise_agent.cpython.layout import PROC_WALK_DTYPE, WALK_FIELDS, Interpreter, Layout
from excise_agent.cpython.lines import line_of
from excise_agent.cpython.memory import Memory
from excise_agent.cpython.walk import stack_hash, thread_states, walk

__all__ = [
    "PROC_WALK_DTYPE",
    "WALK_FIELDS",
    "CodeInfo",
    "Detected",
    "Interpreter",
    "Layout",
    "Memory",
    "NotPython",
    "Unsupported",
    "code_key",
    "detect",
    "line_of",
    "read_code",
    "stack_hash",
    "thread_states",
    "walk",
]
