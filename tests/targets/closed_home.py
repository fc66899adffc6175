"""Another user's process with names in places that are hard to reach: `python closed_home.py HOME`, as that user.

It makes HOME (0700), and in it a library that only its owner may read and one that is deleted once it is mapped; then
it burns CPU by turns in both, in a Python function (`prepare_input`), and in the kernel. Prints a line when it does.
"""

import ctypes
import os
import shutil
import sys
from pathlib import Path


def prepare_input(libraries, descriptor):
    while True:
        for library in libraries:
            library.spin()
        for _ in range(20):
            os.pread(descriptor, 1 << 20, 0)
        sum(range(20_000))


def main():
    home, built = Path(sys.argv[1]), Path(sys.argv[2])
    home.mkdir(mode=0o700)
    os.umask(0o077)
    libraries = []
    for name in ("libclosed.so", "libdeleted.so"):
        shutil.copyfile(built / name, home / name)
        libraries.append(ctypes.PyDLL(str(home / name)))
    (home / "libdeleted.so").unlink()
    descriptor = os.open("/dev/zero", os.O_RDONLY)
    print("ready", flush=True)
    prepare_input(libraries, descriptor)


main()
