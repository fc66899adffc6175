"""Our table of system calls against the C library's header."""

from __future__ import annotations

import re
import shutil
import subprocess

from excise.syscalls import NAMES, syscall_name


def test_calls_have_the_names_that_the_compilers_header_gives_them() -> None:
    command = [shutil.which("cc") or "gcc", "-dM", "-E", "-include", "asm/unistd_64.h", "-x", "c", "/dev/null"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    theirs = {int(number): name for name, number in re.findall(r"^#define __NR_(\w+) (\d+)$", printed, re.MULTILINE)}
    shared = range(min(len(NAMES), max(theirs) + 1))    # either may be the newer one
    assert {i: NAMES[i] for i in shared if NAMES[i] != "-"} == {i: theirs[i] for i in shared if i in theirs}


def test_a_number_without_a_name_is_still_told_apart() -> None:
    assert [syscall_name(n) for n in (202, -1, 340, 9999)] == ["futex", "", "syscall_340", "syscall_9999"]
