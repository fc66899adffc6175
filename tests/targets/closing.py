"""Threads that use the scheduler in every way: `python closing.py MODE`.

Says {"tids": [...]}, and goes on until it is killed. Runs on every CPython from 3.10 on.

gil      three threads that compete for the GIL
pinned   one thread that spins, alone on the last CPU that it may use
sleepers four threads that sleep 1 ms at a time
pingpong two threads that pass a byte to and fro through pipes
io       two threads that write and fsync
many     2 000 threads that sleep
"""

import json
import os
import sys
import tempfile
import threading
import time

FOREVER = 1 << 20


def spin():
    while True:
        pass


def pinned():
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    spin()


def nap():
    while True:
        time.sleep(0.001)


def write_and_sync():
    with tempfile.TemporaryFile() as file:
        while True:
            file.seek(0)
            file.write(b"x" * 65536)
            file.flush()
            os.fsync(file.fileno())


def echo(read_end, write_end):
    while True:
        os.write(write_end, os.read(read_end, 1))


def pingpong():
    (a, b), (c, d) = os.pipe(), os.pipe()
    os.write(b, b"x")
    return [lambda: echo(a, d), lambda: echo(c, b)]


MODES = {
    "gil": lambda: [spin] * 3,
    "pinned": lambda: [pinned],
    "sleepers": lambda: [nap] * 4,
    "pingpong": pingpong,
    "io": lambda: [write_and_sync] * 2,
    "many": lambda: [lambda: time.sleep(FOREVER)] * 2000,
}

if __name__ == "__main__":
    threading.stack_size(65536)
    threads = [threading.Thread(target=run, daemon=True) for run in MODES[sys.argv[1]]()]
    for thread in threads:
        thread.start()
    print(json.dumps({"tids": [thread.native_id for thread in threads]}), flush=True)
    threads[0].join()
