"""A small C++ program with known functions, and what nm says of it."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

SOURCE = r"""
#include <cstdio>
#include <unistd.h>
#include <vector>

namespace shop {
template <typename T, int N> struct Basket {
    __attribute__((noinline)) T total(const std::vector<T> &items) const {
        T sum = N;
        for (auto i : items) sum += i;
        return sum;
    }
};
__attribute__((noinline)) long checkout(long n) { return n * 2654435761L; }
}
extern "C" __attribute__((noinline)) int plain_c(int n) { return n ^ 42; }
static __attribute__((noinline)) int only_here(int n) { return n + 7; }

int main() {
    shop::Basket<long, 3> basket;
    long x = basket.total({1, 2, 3}) + shop::checkout(5) + plain_c(1) + only_here(2);
    std::printf("ready %ld\n", x);
    std::fflush(stdout);
    char c;
    return read(0, &c, 1) < 0;
}
"""


@dataclass(frozen=True)
class Program:
    path: Path
    symbols: dict[str, tuple[int, int]]  # of code: name -> (address, size), by nm


def nm(path: Path, *flags: str) -> dict[str, tuple[int, int]]:
    command = ["nm", "-S", "--defined-only", *flags, str(path)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = [line.split() for line in out.splitlines()]
    return {r[3]: (int(r[0], 16), int(r[1], 16)) for r in rows if len(r) == 4 and r[2] in "tTwW"}
