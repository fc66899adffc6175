"""Any item that a session can make, for hypothesis."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from excise.batch import (
    LENGTH_DTYPE,
    SLICE_DTYPE,
    TOTALS_DTYPE,
    Batch,
    Cost,
    Definitions,
    End,
    Header,
    HostSample,
    Item,
    Totals,
)
from excise.frames import Frame, Process, Thread
from excise.names import DROPS, FD_CLASSES, KERNEL_STATES

u32 = st.integers(0, (1 << 32) - 1)
time_ns = st.integers(0, (1 << 63) - 1)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
number = st.none() | st.integers(0, 1 << 62) | st.floats(0, 1e18)
json = st.recursive(st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1)
                    | st.floats(allow_nan=False, allow_infinity=False) | text,
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
                    max_leaves=8)
free_form = st.dictionaries(text, json, max_size=4)
spans = st.tuples(time_ns, time_ns).map(lambda pair: tuple(sorted(pair)))

kinds = st.sampled_from(["python", "native", "kernel"])
frames = st.builds(Frame, kinds, text, text, st.integers(0, 1 << 31))
processes = st.builds(Process, u32, time_ns, text, st.none() | text, u32, u32, text)
threads = st.builds(Thread, u32, u32, text, st.booleans())
headers = st.builds(Header, text, free_form, st.builds(dict, free_form, pid=u32), time_ns, time_ns,
                    st.floats(0, 1e6), free_form, text)
counters = st.dictionaries(text.filter(lambda key: key != "listen_ports"), number, max_size=4)
ports = st.none() | st.lists(st.integers(0, 65535), max_size=4)
host_samples = st.builds(lambda span, values, ports: HostSample(*span, {**values, "listen_ports": ports}),
                         spans, counters, ports)
costs = st.builds(lambda span, values: Cost(*span, values), spans, free_form)
ends = st.builds(End, time_ns, text, free_form)


def _table(dtype: np.dtype[Any], limits: dict[str, int]) -> st.SearchStrategy[np.ndarray]:
    """Rows over the whole range of each field, but for those with a limit."""
    def element(name: str) -> st.SearchStrategy[Any]:
        base, shape = dtype[name].base, dtype[name].shape
        low, high = int(np.iinfo(base).min) if name != "se_ns" else 0, int(np.iinfo(base).max)
        one = st.integers(low, limits.get(name, high))
        return st.tuples(*[one] * shape[0]) if shape else one
    assert dtype.names is not None
    row = st.tuples(*[element(name) for name in dtype.names])
    return st.lists(row, max_size=6).map(lambda rows: np.array(rows, dtype))


@st.composite
def streams(draw: st.DrawFn) -> list[Item]:
    """A header, then items whose ids were all defined before them, then the end."""
    items: list[Item] = [draw(headers)]
    n_frames = n_stacks = 0
    for kind in draw(st.lists(st.sampled_from(["definitions", "batch", "totals", "host", "cost"]), max_size=6)):
        if kind == "definitions":
            new = draw(st.lists(frames, max_size=4))
            n_frames += len(new)
            stack = st.lists(st.integers(0, max(n_frames - 1, 0)), max_size=5 if n_frames else 0).map(tuple)
            stacks = draw(st.lists(stack, max_size=4))
            n_stacks += len(stacks)
            items.append(Definitions(new, stacks, draw(st.lists(processes, max_size=2)),
                                     draw(st.lists(threads, max_size=2))))
        elif kind == "batch":
            limits = {"state": len(KERNEL_STATES) - 1, "fd_class": len(FD_CLASSES) - 1, "stack": n_stacks}
            lost = draw(st.dictionaries(st.sampled_from(DROPS), st.integers(0, 1 << 40), max_size=3))
            slices = draw(_table(SLICE_DTYPE, limits))
            lengths = draw(_table(LENGTH_DTYPE, {"row": len(slices) - 1})) if len(slices) else None
            more = () if lengths is None else (np.sort(lengths, order="row", kind="stable"),)
            items.append(Batch(*draw(spans), slices, lost, *more))
        elif kind == "totals":
            items.append(Totals(*draw(spans), draw(_table(TOTALS_DTYPE, {}))))
        elif kind == "cost":
            items.append(draw(costs))
        else:
            items.append(draw(host_samples))
    return [*items, draw(ends)]
