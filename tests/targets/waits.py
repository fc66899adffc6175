"""Threads that wait in known ways: `python waits.py` prints {"name": tid}; each waits in a function of its name."""

from __future__ import annotations

import fcntl
import json
import os
import select
import socket
import tempfile
import threading
import time

tids: dict[str, int] = {}
ready = threading.Barrier(11)
FOREVER = 1 << 20


def started(function):
    def run():
        tids[function.__name__] = threading.get_native_id()
        ready.wait()
        function()
    threading.Thread(target=run, name=function.__name__[:15], daemon=True).start()


pipe = os.pipe()
tcp = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(tcp.getsockname())
accepted, _ = tcp.accept()
left, right = socket.socketpair()
poller = select.epoll()
poller.register(pipe[0], select.EPOLLIN)
lock = threading.Lock()
lock.acquire()
held = tempfile.TemporaryFile()  # noqa: SIM115 - open to the end
fcntl.flock(held, fcntl.LOCK_EX)
second = os.open(f"/proc/self/fd/{held.fileno()}", os.O_RDWR)
event = os.eventfd(0) if hasattr(os, "eventfd") else pipe[0]


@started
def pipe_read():
    os.read(pipe[0], 1)


@started
def tcp_recv():
    accepted.recv(1)


@started
def unix_recv():
    left.recv(1)


@started
def tcp_accept():
    tcp.accept()


@started
def epoll_wait():
    poller.poll()


@started
def poll_wait():
    p = select.poll()
    p.register(pipe[0])
    p.poll()


@started
def sleeping():
    time.sleep(FOREVER)


@started
def locked():
    lock.acquire()


@started
def flocked():
    fcntl.flock(second, fcntl.LOCK_EX)


@started
def eventfd_read():
    os.read(event, 8)


ready.wait()
print(json.dumps(tids), flush=True)
while True:
    signal_free = threading.Event()
    signal_free.wait()
