"""A process whose Python stack is known: `python chain.py MODE` prints one line of JSON, then stays in MODE.

{"tid": ..., "expect": [[qualname, line], ... leaf first]}. The leaf keeps its line: report and block are one
line. Runs on every CPython from 3.10 on, with the standard library alone.

sleep       a long chain of all kinds of callers, blocked in time.sleep (GIL released)
read        the same, blocked in os.read
spin        the same, busy in one line (GIL held)
deep        300 frames of recursion, then sleep
coroutine   awaits under asyncio, then sleep
thread      the chain of `sleep` in a second thread
fork        the chain of `sleep` in a forked child (`tid` is the child's)
threads     33 threads, of which the last one sleeps in the chain
gil         the chain of `spin` in a second thread, while the first is as busy: one waits for the GIL
exec-churn  makes, calls and frees functions without end; `expect` holds the frames below them. The functions
            are called churn_N and begin in line N % 1000 + 1 of "<churn N>", which a reader can check
"""

from __future__ import annotations

import asyncio
import collections
import functools
import itertools
import json
import os
import sys
import threading
import time

FOREVER = 1 << 20


def announce(frame):
    expect = []
    while frame is not None:
        code = frame.f_code
        expect.append([getattr(code, "co_qualname", code.co_name), frame.f_lineno])
        frame = frame.f_back
    print(json.dumps({"tid": threading.get_native_id(), "expect": expect}), flush=True)


def leaf_sleep():
    return (announce(sys._getframe()), time.sleep(FOREVER))


def leaf_read():
    return (announce(sys._getframe()), os.read(PIPE[0], 1))


def leaf_spin():
    for _ in itertools.chain([announce(sys._getframe())], itertools.repeat(0)): pass  # noqa: E701


def nothing():
    return None


def busy():
    while True:
        pass


class Shape:
    """Its constructor is called often enough that the interpreter specialises the call (3.12: a shim frame).
    """

    def __init__(self, leaf):
        self.value = leaf()

    @classmethod
    def made(cls, leaf):
        return [cls(f) for f in (*[nothing] * 64, leaf)]

    @property
    def area(self):
        return (
            self.made(self.value)
        )


def größe(leaf):
    shape = Shape(nothing)
    shape.value = leaf

    return shape.area


def 名前(leaf):
    def 𐌰(n):
        if n:
            return 𐌰(n - 1)
        return größe(leaf)

    return 𐌰(3)


def generator(leaf):
    yield 1
    yield (
        名前(leaf)
    )


def delegating(leaf):
    yield from generator(leaf)


def chain(leaf):
    return functools.reduce(
        lambda seen, item: sum(delegating(item) if item else ()),
        [None, leaf],
    )


def called_back(leaf):
    return sorted(
        [leaf],
        key=lambda item:
        chain(item),
    )


def recurse(n, leaf):
    if n:
        return recurse(n - 1, leaf)
    return leaf()


async def innermost(leaf):
    async with asyncio.Lock():
        return called_back(leaf)


async def outermost(leaf):
    await asyncio.sleep(0)
    return await innermost(leaf)


def churn():
    announce(sys._getframe()); collections.deque(map(one_churn, itertools.count()), maxlen=0)  # noqa: E702


def one_churn(n):
    scope = {}
    source = "\n" * (n % 1000) + f"def churn_{n}(x): return [x for _ in range(20)]"
    exec(compile(source, f"<churn {n}>", "exec"), scope)
    scope[f"churn_{n}"](n)


def in_thread(run, meanwhile=nothing):
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    meanwhile()
    thread.join()


def in_last_of_many():
    gate = threading.Event()
    for _ in range(32):
        threading.Thread(target=gate.wait, daemon=True).start()
    in_thread(lambda: called_back(leaf_sleep))


def in_child():
    read_end, write_end = os.pipe()
    if os.fork() == 0:
        os.close(write_end)
        # ends when the parent does
        threading.Thread(target=lambda: (os.read(read_end, 1), os._exit(0)), daemon=True).start()
        called_back(leaf_sleep)
    os.wait()


MODES = {
    "sleep": lambda: called_back(leaf_sleep),
    "read": lambda: called_back(leaf_read),
    "spin": lambda: called_back(leaf_spin),
    "deep": lambda: recurse(300, leaf_sleep),
    "coroutine": lambda: asyncio.run(outermost(leaf_sleep)),
    "thread": lambda: in_thread(lambda: called_back(leaf_sleep)),
    "gil": lambda: in_thread(lambda: called_back(leaf_spin), meanwhile=busy),
    "threads": in_last_of_many,
    "fork": in_child,
    "exec-churn": churn,
}

PIPE = os.pipe()

if __name__ == "__main__":
    MODES[sys.argv[1]]()
