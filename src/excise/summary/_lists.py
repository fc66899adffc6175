"""The names that a segment's head lists: today's, and whatever else its summaries have."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, get_args

from excise.frames import FrameKind
from excise.framing import Damaged
from excise.names import KERNEL_STATES, STAGES, STATES
from excise.summary._names import CLASS_NAMES
from excise.summary._summary import Summary
from excise.summary.schema import HEAD_KEYS

_MAX_NAMES: Final = 255
_MAX_NAME_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class Lists:
    classes: tuple[str, ...]
    states: tuple[str, ...]
    kernel_states: tuple[str, ...]
    stages: tuple[str, ...]
    frame_kinds: tuple[str, ...]

    def encode(self) -> dict[int, object]:
        return {number: list(getattr(self, name)) for name, number in HEAD_KEYS.items()}

    @classmethod
    def decode(cls, content: dict[int, Any]) -> Lists:
        return cls(**{name: _names(content.get(number), name) for name, number in HEAD_KEYS.items()})

    def covering(self, summary: Summary) -> Lists:
        """These, and behind them what the summary has more. ValueError: more names than a head may list."""
        cells = [(k[1], k[2]) for k in (*summary.cells, *summary.lengths)]
        out = Lists(
            _with(self.classes, (cls for cls, _ in cells)),
            _with(self.states, (state for _, state in cells if state)),
            _with(self.kernel_states, (s for helper in summary.helpers.values() for s in helper.states_ns)),
            _with(self.stages, summary.stage_variances_us2),
            _with(self.frame_kinds, (f.kind for f in summary.frames.values())),
        )
        return self if out == self else out


TODAY: Final = Lists(CLASS_NAMES, STATES, KERNEL_STATES, STAGES, get_args(FrameKind))


def _with(names: tuple[str, ...], others: Iterable[str]) -> tuple[str, ...]:
    more = sorted(set(others) - set(names))
    if len(names) + len(more) > _MAX_NAMES or any(not _fits(name) for name in more):
        raise ValueError("its names are too many or too long")
    return (*names, *more)


def _names(names: object, what: str) -> tuple[str, ...]:
    if not isinstance(names, list) or len(names) > _MAX_NAMES:
        raise Damaged(f"its list of {what} is malformed")
    if not all(isinstance(n, str) and _fits(n) for n in names) or len(set(names)) < len(names):
        raise Damaged(f"its list of {what} is malformed")
    return tuple(names)


def _fits(name: str) -> bool:
    return 0 < len(name.encode("utf-8", "replace")) <= _MAX_NAME_BYTES
