"""Which stack a folded row's hashes and addresses stand for, once it was named: columns in, ids out."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from excise.ledger.table import KeyTable
from excise.records import FLAG_KERNEL_MODE

MAX_ROWS: Final = 32768
"""Named stacks that are remembered: 2 MB. The demo server has 2000 in ten minutes, each of its children's as many."""


class StackIds:
    """(process image, Python chain, kernel chain, start of the function in user space, kernel mode) -> stack id.

    An image is a pid until the process ends or calls exec: then its addresses mean something else. What belongs to an
    image that is gone, or was not seen for longest, goes when there are too many.
    """

    def __init__(self, max_rows: int = MAX_ROWS) -> None:
        self._max_rows = max_rows
        self._table = KeyTable(4)
        self._ids: NDArray[np.uint32] = np.zeros(0, np.uint32)
        self._seen: NDArray[np.int64] = np.zeros(0, np.int64)  # the tick that a row was last looked up in
        self._tick = 0
        self._images: dict[int, int] = {}
        self._next_image = 1

    def __len__(self) -> int:
        return len(self._table)

    def words(self, rows: NDArray[np.void], starts: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """The keys of folded rows, (n, 4); starts (n,): of the functions that their addresses lie in."""
        pids, which = np.unique(rows["pid"], return_inverse=True)
        images = np.array([self._image(pid) for pid in pids.tolist()], np.uint64)
        out = np.empty((len(rows), 4), np.uint64)
        out[:, 0] = images[which] << np.uint64(1) | ((rows["flags"] & FLAG_KERNEL_MODE) != 0)
        out[:, 1], out[:, 2], out[:, 3] = rows["stack"], rows["kstack"], starts
        return out

    def find(self, words: NDArray[np.uint64]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """The ids (n,), and which of the keys have none."""
        self._tick += 1
        rows = self._table.find(words)
        known = rows >= 0
        out = np.zeros(len(words), np.uint32)
        out[known] = self._ids[rows[known]]
        self._seen[rows[known]] = self._tick
        return out, np.flatnonzero(~known)

    def learn(self, words: NDArray[np.uint64], ids: NDArray[np.uint32]) -> bool:
        """Remembers the ids (n,) of new keys (n, 4). True: there were too many, and the oldest are forgotten."""
        rows = self._table.intern(words)
        more = len(self._table) - len(self._ids)
        if more > 0:
            self._ids = np.concatenate((self._ids, np.zeros(more, np.uint32)))
            self._seen = np.concatenate((self._seen, np.zeros(more, np.int64)))
        self._ids[rows] = ids
        self._seen[rows] = self._tick
        if len(self._table) <= self._max_rows:
            return False
        self._shed()
        return True

    def forget(self, pid: int) -> None:
        """The process has ended or has another image."""
        self._images.pop(pid, None)

    def chains(self) -> set[int]:
        """Hashes of the chains, Python's and the kernel's, that remembered stacks are made of."""
        keys = self._table.keys
        return set(keys[:, 1].tolist()) | set(keys[:, 2].tolist())

    def _image(self, pid: int) -> int:
        known = self._images.get(pid)
        if known is None:
            known = self._images[pid] = self._next_image
            self._next_image += 1
        return known

    def _shed(self) -> None:
        """Leaves at most half of the room taken, by those seen last."""
        living = np.fromiter(self._images.values(), np.uint64, len(self._images))
        kept = np.isin(self._table.keys[:, 0] >> np.uint64(1), living)
        room = self._max_rows // 2
        if kept.sum() > room:
            last = np.argsort(-np.where(kept, self._seen, -1), kind="stable")[:room]
            kept[:] = False
            kept[last] = True
        self._ids, self._seen = self._ids[kept], self._seen[kept]
        self._table.keep(kept)
