"""Maps strange files as code, and puts other things in their place: python maps_strange_files.py FOLDER.

Then it works for ever.
"""

import ctypes
import mmap
import os
import shutil
import sys
import time

folder = sys.argv[1]
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
with open("/proc/self/exe", "rb") as program:
    ELF = program.read(4096)
CODE = b"\x48\x89\xf8\x48\xff\xc8\x75\xfb\xc3"  # counts down from its argument


def run_from(name: str, size: int, head: bytes = b""):
    """A function that spins in a page of a file of this size."""
    path = os.path.join(folder, name)
    with open(path, "wb") as file:
        file.write(head)
        file.truncate(size)
        file.seek(4096)
        file.write(CODE)
    fd = os.open(path, os.O_RDONLY)
    at = libc.mmap(None, 8192, mmap.PROT_READ | mmap.PROT_EXEC, mmap.MAP_PRIVATE, fd, 0)
    os.close(fd)
    assert at not in (None, ctypes.c_void_p(-1).value), os.strerror(ctypes.get_errno())
    return ctypes.CFUNCTYPE(None, ctypes.c_uint64)(at + 4096)


def in_place_of(name: str, make) -> None:
    os.unlink(os.path.join(folder, name))
    make(os.path.join(folder, name))


functions = [
    run_from("libsparse.so", 1 << 40, ELF),
    run_from("libnothing.so", 1 << 20),
    run_from("lib\x1b[31mescape\n[red]<b>.so", 1 << 20, ELF),
    run_from("libpipe.so", 1 << 20, ELF),
    run_from("libdevice.so", 1 << 20, ELF),
    run_from("libloop.so", 1 << 20, ELF),
    run_from("libfolder.so", 1 << 20, ELF),
    run_from("libsecret.so", 1 << 20, ELF),
    run_from("libshrinks.so", 1 << 20, ELF),
]
in_place_of("libpipe.so", os.mkfifo)
in_place_of("libdevice.so", lambda path: os.symlink("/dev/zero", path))
in_place_of("libloop.so", lambda path: os.symlink(path, path))
in_place_of("libfolder.so", os.mkdir)
in_place_of("libsecret.so", lambda path: os.symlink("/etc/shadow", path))
shutil.copy("/proc/self/exe", os.path.join(folder, "libgrows.so"))
print("ready", flush=True)
while True:
    for function in functions:
        function(200_000)
    with open(os.path.join(folder, "libshrinks.so"), "r+b") as file:
        file.truncate(1 << 13 if time.time() % 2 < 1 else 1 << 20)
    time.sleep(0.001)
