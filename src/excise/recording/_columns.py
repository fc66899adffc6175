"""Integer columns as few bytes: narrowest width, then byte planes, which zlib finds alike.

Measured on a made-up minute (tests/recording/typical_recording.py): sorting the rows would save a tenth,
differences between neighbours nothing. So rows keep their order: a replay is the session, to the bit.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from excise.recording._format import Damaged

_WIDTHS: Final = {code: np.dtype(code) for code in ("|u1", "|i1", "<u2", "<i2", "<u4", "<i4", "<i8")}

Column = list[Any]  # [width, bytes]


def encode_column(values: NDArray[Any]) -> Column:
    wide = values.astype(np.int64)
    code = _width(wide)
    dtype = _WIDTHS[code]
    narrow = np.ascontiguousarray(wide.astype(dtype))
    return [code, narrow.view(np.uint8).reshape(len(narrow), dtype.itemsize).T.tobytes()]


def decode_column(column: object, rows: int, into: np.dtype[Any]) -> NDArray[Any]:
    """The values, each of which fits `into`; Damaged if they are not `rows` such values."""
    match column:
        case [str(code), bytes(packed)]:
            dtype = _WIDTHS.get(code)
        case _:
            raise Damaged("a column is malformed")
    if dtype is None or len(packed) != rows * dtype.itemsize:
        raise Damaged("a column has the wrong length")
    planes = np.frombuffer(packed, np.uint8).reshape(dtype.itemsize, rows)
    values = np.ascontiguousarray(planes.T).view(dtype).reshape(rows).astype(np.int64)
    limits = np.iinfo(into)
    if rows and (int(values.min()) < limits.min or int(values.max()) > limits.max):
        raise Damaged("a column holds a number that is out of range")
    return values.astype(into)


def encode_list(values: list[int]) -> Column:
    return encode_column(np.array(values, np.int64))


def decode_list(column: object, rows: int, into: str) -> list[int]:
    out: list[int] = decode_column(column, rows, np.dtype(into)).tolist()
    return out


def _width(values: NDArray[np.int64]) -> str:
    low, high = (int(values.min()), int(values.max())) if len(values) else (0, 0)
    fits = (code for code, dtype in _WIDTHS.items()
            if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max)
    return next(fits)
