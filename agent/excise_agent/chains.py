"""Chains of frames by the hash that the kernel calls them: kept as long as it may still do so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from excise.frames import Stack

MAX_CHAINS: Final = 32768  # twice what the kernel remembers to have sent (Sizes.stacks); the rest it sends again
NEW: Final = 4096  # of these, the newest that stay although no stack was made of them yet


class Chains:
    """`hash` -> frames, leaf first, and whose it is: a pid, or 0 for the kernel's.

    The kernel sends a chain once. So one of a living process stays while there is room; one of a process that has ended
    goes unless a stack that is remembered has it (a forked child walks its parent's code).
    """

    def __init__(self, in_use: Callable[[], set[int]], max_chains: int = MAX_CHAINS, new: int = NEW) -> None:
        self._in_use = in_use
        self._max, self._new = max_chains, new
        self._chains: dict[int, tuple[Stack, int]] = {}
        self._of: dict[int, set[int]] = {}  # pid -> hashes
        self._ended: set[int] = set()  # hashes whose process has ended

    def __len__(self) -> int:
        return len(self._chains)

    def __contains__(self, hash_: int) -> bool:
        return hash_ in self._chains

    def get(self, hash_: int) -> Stack | None:
        known = self._chains.get(hash_)
        return known[0] if known is not None else None

    def add(self, hash_: int, pid: int, frames: Stack) -> None:
        """A chain that came, perhaps again."""
        before = self._chains.pop(hash_, None)
        if before is not None:
            self._disown(hash_, before[1])
        self._chains[hash_] = frames, pid
        self._of.setdefault(pid, set()).add(hash_)
        self._ended.discard(hash_)
        if len(self._ended) > self._new:
            self._shed(set())
        if len(self._chains) > self._max:
            self._shed(self._living_too_many())

    def forget(self, pid: int) -> None:
        """The process has ended or has another image."""
        self._ended |= self._of.pop(pid, set())

    def _disown(self, hash_: int, pid: int) -> None:
        owned = self._of.get(pid)
        if owned is not None:
            owned.discard(hash_)

    def _living_too_many(self) -> set[int]:
        return set(self._chains) - self._ended

    def _shed(self, more: set[int]) -> None:
        """Drops what has ended, and `more`, but what is in use or new. If even that is too much, the oldest half."""
        kept = self._in_use() | set(list(self._chains)[-self._new :])
        self._drop((self._ended | more) - kept)
        self._ended.clear()  # what stays is of those who use it
        if len(self._chains) > self._max:
            self._drop(set(list(self._chains)[: len(self._chains) // 2]))

    def _drop(self, hashes: set[int]) -> None:
        for hash_ in hashes:
            self._disown(hash_, self._chains.pop(hash_)[1])
        self._of = {pid: owned for pid, owned in self._of.items() if owned}
