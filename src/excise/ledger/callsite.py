"""What no rule knows, judged by what else was seen at the same call.

A C function called from unknown code has no Python frame, and the innermost native frame may be the C library's: memory
that a tokenizer copies, the GIL that it takes back. But the Python chain, to the line, is the same as in the samples
that caught the library itself. Those decide, by majority. Time in the interpreter's own loop is the user's code and is
left alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from excise.ledger.classes import CLASSES, UNATTRIBUTED_CLASS
from excise.names import KERNEL_STATE_ID

RUNNING = KERNEL_STATE_ID["running"]
MIN_EVIDENCE = 2    # samples at the call that a rule knew
_C = len(CLASSES)


def judge_by_call(slices: NDArray[np.void], facts: NDArray[np.void], chains: int,
                  run_class: NDArray[np.int64]) -> NDArray[np.int64]:
    """By row: the class that samples of the same call have, for stacks that no rule knew; else -1.

    facts: STACK_FACTS by stack; chains: how many Python chains there are; run_class (n,): the class as if on a CPU.
    """
    stack = slices["stack"].astype(np.int64)
    chain = facts["chain"][stack]
    nowhere = np.full(len(slices), -1, np.int64)
    unknown = UNATTRIBUTED_CLASS[run_class] & (chain >= 0)
    asked = np.zeros(chains + 1, bool)
    asked[chain[unknown]] = True
    asked[-1] = False  # where there is no chain
    seen = asked[chain] & ~UNATTRIBUTED_CLASS[run_class] & (slices["state"] == RUNNING)
    if not seen.any():
        return nowhere
    codes, which = np.unique(chain[seen].astype(np.int64) * _C + run_class[seen], return_inverse=True)
    counts = np.bincount(which, weights=slices["count"][seen]).astype(np.int64)
    of_chain = codes // _C
    total = np.bincount(of_chain, weights=counts, minlength=chains + 1)
    majority = (counts >= MIN_EVIDENCE) & (2 * counts > total[of_chain])
    judged = np.full(chains + 1, -1, np.int64)
    judged[of_chain[majority]] = codes[majority] % _C
    known_not = np.zeros(len(facts), bool)  # a stack is judged when some thread's rules did not know it
    known_not[stack[unknown]] = True
    return np.where(known_not[stack] & ~facts["loop"][stack], judged[chain], nowhere)
