"""What no rule knows, judged by what else was seen at the same call.

A C function called from unknown code has no Python frame, and the innermost native frame may be the C library's: memory
that a tokenizer copies, the GIL that it takes back. But the Python chain, to the line, is the same as in the samples
that caught the library itself. Those decide, by majority. Time in the interpreter's own loop is the user's code and is
left alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from excise.frames import Frame, Stack
from excise.names import KERNEL_STATE_ID
from excise.stages import Verdict

RUNNING = KERNEL_STATE_ID["running"]
MIN_EVIDENCE = 2    # samples at the call that a rule knew
SAME_CALL = "same call"
_LOOPS = ("_PyEval_EvalFrame", "PyEval_EvalCode", "_PyEval_Vector", "_PyFunction_Vectorcall")


def judge_by_call(slices: NDArray[np.void], stacks: Sequence[Stack], frames: Sequence[Frame],
                  runs: Sequence[Verdict]) -> dict[int, Verdict]:
    """Stack id -> verdict, for stacks that no rule knew. `runs` are the verdicts by row, as if on a CPU."""
    chains: dict[int, Stack] = {}
    seen: dict[Stack, Counter[tuple[str, str | None]]] = {}
    unknown: set[int] = set()
    for row, verdict in zip(slices, runs, strict=True):
        stack = int(row["stack"])
        chain = chains.get(stack)
        if chain is None:
            chain = chains[stack] = tuple(f for f in stacks[stack] if frames[f].kind == "python")
        if not chain:
            continue
        if verdict.stage == "unattributed":
            unknown.add(stack)
        elif int(row["state"]) == RUNNING:
            seen.setdefault(chain, Counter())[verdict.stage, verdict.substage] += int(row["count"])
    out: dict[int, Verdict] = {}
    for stack in unknown:
        evidence = seen.get(chains[stack])
        if evidence is None or _interprets(stacks[stack], frames):
            continue
        (stage, substage), count = evidence.most_common(1)[0]
        if count >= MIN_EVIDENCE and 2 * count > evidence.total():
            out[stack] = Verdict(stage, substage, None, SAME_CALL)
    return out


def _interprets(stack: Stack, frames: Sequence[Frame]) -> bool:
    """Whether the innermost native frame is the interpreter's loop."""
    for frame_id in stack:
        frame: Any = frames[frame_id]
        if frame.kind == "native":
            return bool(frame.name.startswith(_LOOPS))
    return False
