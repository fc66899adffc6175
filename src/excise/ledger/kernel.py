"""How the compiled functions are compiled: at import, for one signature, and kept on disk where that is possible."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba as nb

_F = TypeVar("_F", bound=Callable[..., Any])


def kernel(signature: Any) -> Callable[[_F], _F]:
    """Compiles now, so that nothing compiles while a probe is attached.

    Where no folder for numba's cache can be written (a user without a home, an installation of root's), it compiles
    each time: seconds, once a process. Numba notices a change of the file that a function stands in, not of what it
    calls: functions that call one another belong in one file.
    """

    def compile_(function: _F) -> _F:
        try:
            return nb.njit(signature, cache=True)(function)  # type: ignore[no-any-return]
        except RuntimeError:  # "no locator available": said before anything is compiled
            return nb.njit(signature)(function)  # type: ignore[no-any-return]

    return compile_
