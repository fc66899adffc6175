"""A parent of short-lived children: `python churn.py`. For every line {"children": N, "seconds": S} it makes N of them,
spread over S seconds (0: as fast as they come), reaps all, and says {"children": how many so far, "seconds": taken}.

Most run a few ms of the parent's own Python; some start threads, some have a child of their own, some exec: a C
program, or another Python. Ends with its input. Runs on every CPython from 3.10 on, with the standard library alone.
"""

import json
import os
import sys
import threading
import time

BUSY_S = 0.002
THREADS_ONE_IN, GRANDCHILD_ONE_IN, TRUE_ONE_IN, PYTHON_ONE_IN = 7, 11, 13, 101


def say(**what):
    os.write(1, (json.dumps(what) + "\n").encode())


def burn(seconds=BUSY_S):
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        tokens([str(i) for i in range(50)])


def tokens(words):
    return {word: len(word) for word in words}


def threads():
    started = [threading.Thread(target=burn) for _ in range(3)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()


def grandchild():
    os.waitpid(fork_and(burn), 0)


def exec_true():
    os.execv("/bin/true", ["true"])


def exec_python():
    os.execv(sys.executable, [sys.executable, "-S", "-E", "-c", "sum(range(100000))"])


def fork_and(run):
    pid = os.fork()
    if pid == 0:
        try:
            run()
        finally:
            os._exit(0)
    return pid


def work_of(number):
    for one_in, work in ((PYTHON_ONE_IN, exec_python), (TRUE_ONE_IN, exec_true), (GRANDCHILD_ONE_IN, grandchild),
                         (THREADS_ONE_IN, threads)):
        if number % one_in == 0:
            return work
    return burn


def main():
    made = 0
    say(pid=os.getpid())
    for line in sys.stdin:
        order = json.loads(line)
        began = time.monotonic()
        for i in range(order["children"]):
            due = began + order["seconds"] * i / order["children"]
            time.sleep(max(0.0, due - time.monotonic()))
            made += 1
            os.waitpid(fork_and(work_of(made)), 0)
        say(children=made, seconds=round(time.monotonic() - began, 1))


if __name__ == "__main__":
    main()
