"""A process that overwrites its interpreter's state: python scribbler.py LIBRARY, then a line of JSON on standard input
with a plan. Runs on every CPython from 3.10 on."""

import ctypes
import json
import sys


def scribbles_for_ever(library, plan, mode, start):
    library.scribble(plan, mode, ctypes.c_uint64(start))


def main():
    library = ctypes.PyDLL(sys.argv[1])  # which keeps the GIL
    code = scribbles_for_ever.__code__
    print(id(code), flush=True)
    told = json.loads(sys.stdin.readline())
    plan = (ctypes.c_uint64 * len(told["plan"]))(*told["plan"])
    print("scribbling", flush=True)
    scribbles_for_ever(library, plan, told["mode"], told["start"])


main()
