"""Prints a line of JSON for each code object: its line table, first line, the line of each code unit."""

from __future__ import annotations

import importlib
import json
import sys
import types

MODULES = [
    "argparse", "asyncio.base_events", "asyncio.streams", "asyncio.tasks", "json.decoder", "json.encoder",
]


def codes(code):
    yield code
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from codes(const)


def lines(code):
    if hasattr(code, "co_positions"):
        return [position[0] for position in code.co_positions()]
    out = [None] * (len(code.co_code) // 2)
    for start, end, line in code.co_lines():
        out[start // 2:end // 2] = [line] * (end // 2 - start // 2)
    return out


for name in MODULES:
    path = importlib.import_module(name).__file__
    with open(path, encoding="utf-8") as file:
        for code in codes(compile(file.read(), path, "exec")):
            print(json.dumps([code.co_linetable.hex(), code.co_firstlineno, lines(code)]))
print(sys.hexversion >> 16)
