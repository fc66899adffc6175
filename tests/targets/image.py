"""What tree.py execs: `python image.py NS`, the moment before the exec. Imports nothing that is slow.

Busy in one function until 250 ms after the exec, in another for as long again; then says
{"pid": ..., "cpu_ns": ...} and waits for a line.
"""

import os
import sys
import time


def early(until_ns):
    while time.monotonic_ns() < until_ns: pass  # noqa: E701


def late(until_ns):
    while time.monotonic_ns() < until_ns: pass  # noqa: E701


if __name__ == "__main__":
    began_ns = time.thread_time_ns()
    early(int(sys.argv[1]) + 250_000_000)
    late(time.monotonic_ns() + 250_000_000)
    said = f'{{"pid": {os.getpid()}, "cpu_ns": {time.thread_time_ns() - began_ns}}}\n'
    os.write(1, said.encode())
    sys.stdin.readline()
