"""Rows by key: an open-addressing table over columns, in which whole columns of keys are looked up at once."""

from __future__ import annotations

from typing import Any, Final

import numba as nb
import numpy as np
from numpy.typing import NDArray

from excise.ledger.kernel import kernel

MOST: Final = (1 << 62) - 1  # two of them are still an i64
"""Sums stop here, on either side: a hostile recording must not make time negative by overflow."""

_MULTIPLIER = 0x9E3779B97F4A7C15
_U8, _I8 = nb.uint64, nb.int64


@kernel(_I8(_U8[:, ::1], _U8[:, ::1], nb.int32[::1], _I8[::1], _I8[::1], nb.boolean))
def find_rows(words: Any, keys: Any, table: Any, used: Any, out: Any, insert: Any) -> int:
    """The row of each key of words (n, K) into out (n,); returns how many have none, which is -1 there.

    keys (rows, K); table (power of two, more than rows) i32, row + 1 or 0; used (1,) rows in use. insert: a key without
    a row gets the next one, while there are any.
    """
    missing = 0
    width = words.shape[1]
    mask = nb.uint64(table.shape[0] - 1)
    for i in range(words.shape[0]):
        h = nb.uint64(0)
        for k in range(width):
            h = (h ^ words[i, k]) * nb.uint64(_MULTIPLIER)
            h ^= h >> nb.uint64(32)
        slot = nb.int64(h & mask)
        row = nb.int64(table[slot]) - 1
        while row >= 0:
            same = True
            for k in range(width):
                if keys[row, k] != words[i, k]:
                    same = False
                    break
            if same:
                break
            slot = nb.int64(nb.uint64(slot + 1) & mask)
            row = nb.int64(table[slot]) - 1
        if row < 0 and insert and used[0] < keys.shape[0]:
            row = used[0]
            used[0] = row + 1
            table[slot] = row + 1
            for k in range(width):
                keys[row, k] = words[i, k]
        if row < 0:
            missing += 1
        out[i] = row
    return missing


@kernel(nb.void(_I8[::1], _I8[:, ::1], _I8[:, ::1]))
def add_at(rows: Any, values: Any, sums: Any) -> None:
    """sums (rows, K) += values (n, K), each at its row (n,); rows below 0 are left out, sums end at +-MOST."""
    for i in range(rows.shape[0]):
        row = rows[i]
        if row < 0:
            continue
        for k in range(values.shape[1]):
            more = min(max(values[i, k], -MOST), MOST)
            sums[row, k] = min(max(sums[row, k] + more, -MOST), MOST)


class KeyTable:
    """Keys of `width` u64 words, numbered as they come. It grows as needed; its users bound it."""

    def __init__(self, width: int, rows: int = 256) -> None:
        self.width = width
        self._first_rows = rows
        self.clear()

    def __len__(self) -> int:
        return int(self._used[0])

    def clear(self) -> None:
        """No key has a row any more."""
        self._keys = np.zeros((self._first_rows, self.width), np.uint64)
        self._table = np.zeros(1 << (2 * self._first_rows - 1).bit_length(), np.int32)
        self._used = np.zeros(1, np.int64)

    @property
    def keys(self) -> NDArray[np.uint64]:
        """(n, width), by row. A view: to be read before the table grows."""
        return self._keys[: len(self)]

    def find(self, words: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The row of each key, (n,); -1: none."""
        out = np.empty(len(words), np.int64)
        find_rows(words, self._keys, self._table, self._used, out, False)
        return out

    def intern(self, words: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The row of each key, (n,); new keys get new rows, in their order."""
        out = np.empty(len(words), np.int64)
        while find_rows(words, self._keys, self._table, self._used, out, True):
            self._resize(2 * len(self._keys))
        return out

    def keep(self, kept: NDArray[np.bool_]) -> None:
        """Only the keys that are `kept` (n,) stay; they are numbered anew, in their order."""
        keys = self.keys[kept]
        self.clear()
        if len(keys):
            self.intern(keys)

    def _resize(self, rows: int) -> None:
        keys = self._keys
        self._keys = np.zeros((rows, self.width), np.uint64)
        self._table = np.zeros(1 << (2 * rows - 1).bit_length(), np.int32)
        self._used[0] = 0
        find_rows(keys, self._keys, self._table, self._used, np.empty(len(keys), np.int64), True)


class SumTable(KeyTable):
    """A KeyTable with `columns` sums (i64) by row."""

    def __init__(self, width: int, columns: int, rows: int = 256) -> None:
        self.columns = columns
        super().__init__(width, rows)

    def clear(self) -> None:
        super().clear()
        self._sums = np.zeros((self._first_rows, self.columns), np.int64)

    @property
    def sums(self) -> NDArray[np.int64]:
        """(n, columns), by row. A view."""
        return self._sums[: len(self)]

    def add(self, words: NDArray[np.uint64], values: NDArray[np.int64]) -> NDArray[np.int64]:
        """Adds values (n, columns) to the sums of their keys (n, width); returns their rows (n,)."""
        rows = self.intern(words)
        add_at(rows, values, self._sums)
        return rows

    def _resize(self, rows: int) -> None:
        super()._resize(rows)
        self._sums = np.concatenate((self._sums, np.zeros((rows - len(self._sums), self.columns), np.int64)))
