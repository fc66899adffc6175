"""A process that makes processes and threads: `python tree.py MODE [ARGUMENT...]`.

Says {"pid": ...} in one line of JSON, waits for a line, does what MODE says, says what it measured. Runs on
every CPython from 3.10 on, with the standard library alone.
"""

import contextlib
import ctypes
import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import time

CHILDREN, THREADS = 37, 53
IMAGE = os.path.join(os.path.dirname(__file__), "image.py")


def say(**what):
    os.write(1, (json.dumps(what) + "\n").encode())


def wait_for_go():
    return sys.stdin.readline()


def burn(seconds, clock=time.thread_time):
    """Busy for so much of its own CPU time."""
    until = clock() + seconds
    while clock() < until: pass  # noqa: E701


def fork_and(run):
    pid = os.fork()
    if pid == 0:
        try:
            run()
        finally:
            os._exit(0)
    return pid


def reap(pid):
    """CPU ns of an ended child, as the kernel counted it."""
    _, _, usage = os.wait4(pid, 0)
    return round((usage.ru_utime + usage.ru_stime) * 1e9)


def forks():
    cpu = {}
    for _ in range(CHILDREN):
        pid = fork_and(lambda: burn(0.05))
        cpu[pid] = reap(pid)
    say(cpu_ns=cpu)


def pool(method):
    context = multiprocessing.get_context(method)
    workers = [context.Process(target=burn, args=(0.3,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    pids = [worker.pid for worker in workers]
    for worker in workers:
        worker.join()
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    say(pids=pids, cpu_ns=round((usage.ru_utime + usage.ru_stime) * 1e9))


def run(python):
    child = subprocess.Popen([python, IMAGE, str(time.monotonic_ns())],
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    said = json.loads(child.stdout.readline())
    child.stdout.close()
    child.wait()
    say(**said)


def exec_self():
    os.execv(sys.executable, [sys.executable, IMAGE, str(time.monotonic_ns())])


def exec_from_thread():
    threading.Thread(target=exec_self).start()
    time.sleep(1000)


def old_children():
    """Says its descendants before it waits: a child that has a child, and another."""
    ends = [os.pipe() for _ in range(2)]

    def hold_no_ends():
        """So that a parent that is gone ends the wait."""
        for _, write_end in ends:
            with contextlib.suppress(OSError):
                os.close(write_end)

    def obey(read_end):
        hold_no_ends()
        os.read(read_end, 1)
        burn(0.2)

    def first():
        hold_no_ends()
        grandchild = fork_and(lambda: obey(ends[0][0]))
        os.write(told[1], f"{grandchild}\n".encode())
        reap(grandchild)

    told = os.pipe()
    parent_of_one = fork_and(first)
    grandchild = int(os.read(told[0], 100))
    other = fork_and(lambda: obey(ends[1][0]))
    say(pid=os.getpid(), parents={parent_of_one: os.getpid(), grandchild: parent_of_one, other: os.getpid()})
    wait_for_go()
    for _, end in ends:
        os.write(end, b"x")
    reap(parent_of_one)
    reap(other)
    say(burning=[grandchild, other])


def short_threads():
    cpu, lock = {}, threading.Lock()

    def work():
        burn(0.02)
        with lock:
            cpu[threading.get_native_id()] = time.thread_time_ns()

    for _ in range(THREADS):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    say(cpu_ns=cpu)


class CloneArgs(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in (
        "flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size", "tls", "set_tid",
        "set_tid_size", "cgroup")]


def fork_as(pid, run):
    """clone3 with a pid of our choice."""
    chosen = ctypes.c_int(pid)
    arguments = CloneArgs(exit_signal=signal.SIGCHLD, set_tid=ctypes.addressof(chosen), set_tid_size=1)
    got = ctypes.CDLL(None, use_errno=True).syscall(435, ctypes.byref(arguments), ctypes.sizeof(arguments))
    if got == 0:
        try:
            run()
        finally:
            os._exit(0)
    assert got == pid, (got, ctypes.get_errno())


def reused_pid():
    pid = fork_and(lambda: burn(0.05))
    cpu_ns = reap(pid)
    for _ in range(6):
        fork_as(pid, lambda: burn(0.05))
        cpu_ns += reap(pid)
    say(pid=pid, cpu_ns=cpu_ns)


def ends():
    burn(0.2)
    say(cpu_ns=time.process_time_ns())


def leaves_a_child():
    pid = fork_and(lambda: time.sleep(1000))
    say(child=pid)
    os._exit(0)


def leader_ends():
    def work():
        began = time.thread_time_ns()
        burn(0.5)
        say(tid=threading.get_native_id(), cpu_ns=time.thread_time_ns() - began)
        time.sleep(1000)

    threading.Thread(target=work, daemon=True).start()
    ctypes.CDLL(None).syscall(60, 0)  # exit of this thread alone


ALONE = {"old_children": old_children}
MODES = {"forks": forks, "pool": pool, "run": run, "exec_self": exec_self,
         "exec_from_thread": exec_from_thread, "short_threads": short_threads, "reused_pid": reused_pid,
         "ends": ends, "leaves_a_child": leaves_a_child,
         "leader_ends": leader_ends}

if __name__ == "__main__":
    if sys.argv[1] in ALONE:
        ALONE[sys.argv[1]](*sys.argv[2:])
    else:
        say(pid=os.getpid())
        wait_for_go()
        MODES[sys.argv[1]](*sys.argv[2:])
    sys.stdin.readline()
