"""Rows into sums and classes, each against its plain twin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import PID, STACKS, FrameRules, definitions, sample, slices, waited

from excise.batch import SLICE_KERNEL_MODE
from excise.frames import Frame
from excise.ledger.accumulate import Sums
from excise.ledger.attribute import Attributor, wait_codes, wait_of
from excise.ledger.classes import CLASSES, class_id
from excise.ledger.definitions import Known
from excise.names import FD_CLASSES, KERNEL_STATE_ID, KERNEL_STATES
from excise.records import WEIGHT_ONE
from excise.stages import Rules, ThreadContext, Verdict, Wait
from excise.syscalls import syscall_name

S, C, T = len(KERNEL_STATES), len(CLASSES), 3
RUNNING, RUNNABLE = KERNEL_STATE_ID["running"], KERNEL_STATE_ID["runnable"]
AS_IF_RUNNING = ("running", "runnable", "gil")
big = st.integers(-(10**12), 10**12)
variance = st.integers(0, 1 << 40)
rows_strategy = st.lists(st.fixed_dictionaries({
    "state": st.integers(0, S - 1), "flags": st.sampled_from([0, SLICE_KERNEL_MODE]), "count": st.integers(0, 1000),
    "weight_ns": big, "runnable_ns": st.just(0) | big, "thinned": st.integers(0, 1 << 20), "weight_var_us2": variance,
    "runnable_var_us2": variance, "thread": st.integers(0, T - 1), "wait": st.integers(0, C - 1),
    "run": st.integers(0, C - 1)}), max_size=20)


@given(rows_strategy)
@settings(max_examples=200, deadline=None)
def test_rows_accumulate_as_one_by_one(rows: list[dict[str, int]]) -> None:
    records, counts = np.zeros((T, S, C), np.int64), np.zeros((T, S), np.int64)
    variances, samples, weights = np.zeros((T, S, C)), np.zeros((T, C, 2), np.int64), np.zeros((T, C, 2))
    for r in rows:
        t, state = r["thread"], r["state"]
        if state == RUNNING:
            at = t, r["run"], r["flags"] & SLICE_KERNEL_MODE
            samples[at] += r["count"]
            weights[at] += r["count"] + r["thinned"] / WEIGHT_ONE
            continue
        records[t, state, r["wait"]] += r["weight_ns"]
        records[t, RUNNABLE, r["run"]] += r["runnable_ns"]
        variances[t, state, r["wait"]] += r["weight_var_us2"] * 1e6
        variances[t, RUNNABLE, r["run"]] += r["runnable_var_us2"] * 1e6
        counts[t, state] += r["count"]
        counts[t, RUNNABLE] += r["count"] if r["runnable_ns"] else 0
    table = slices(*({k: v for k, v in r.items() if k not in ("thread", "wait", "run")} for r in rows))
    columns = (np.array([r[name] for r in rows], np.int64) for name in ("thread", "wait", "run"))
    sums = Sums(T)
    sums.add(table, *columns)
    for found, expected in ((sums.records, records), (sums.variances, variances), (sums.samples, samples),
                            (sums.weights, weights), (sums.counts, counts)):
        assert found.tolist() == expected.tolist()


def plain_wait(row: Any, ports: Sequence[int]) -> Wait | None:
    state, fd_class = KERNEL_STATES[int(row["state"])], FD_CLASSES[int(row["fd_class"])]
    if state in AS_IF_RUNNING:
        return None
    port, fd, number = int(row["port"]), int(row["fd"]), int(row["syscall"])
    inbound = True if fd_class == "listen" else port in ports if fd_class == "inet" and port else None
    return Wait(state, number, syscall_name(number), fd_class, fd if fd < 254 else None, inbound)


wait_rows = st.lists(st.fixed_dictionaries({
    "state": st.integers(0, S - 1), "syscall": st.integers(-1, 450) | st.integers(-(1 << 15), (1 << 15) - 1),
    "fd_class": st.integers(0, len(FD_CLASSES) - 1), "fd": st.integers(0, 255), "port": st.sampled_from([0, 80, 8000]),
    "stack": st.sampled_from([0, *STACKS]), "tid": st.integers(PID, PID + 2)}), max_size=20)


@given(wait_rows, st.lists(st.sampled_from([80, 8000]), max_size=2))
@settings(max_examples=200, deadline=None)
def test_a_waits_code_says_all_that_a_rule_is_told(rows: list[dict[str, Any]], ports: list[int]) -> None:
    table = slices(*rows)
    codes = wait_codes(table, np.array(ports, np.int64))
    assert [wait_of(int(code)) for code in codes] == [plain_wait(row, ports) for row in table]


class Asked(FrameRules):
    """Counts what it is asked; the answer depends on all of the question."""

    def __init__(self) -> None:
        self.questions: list[tuple[Any, ...]] = []

    def attribute(self, frames: Sequence[Frame], wait: Wait | None, thread: ThreadContext) -> Verdict:
        self.questions.append((tuple(frames), wait, thread))
        return self.answer(frames, wait, thread)

    def answer(self, frames: Sequence[Frame], wait: Wait | None, thread: ThreadContext) -> Verdict:
        if wait is not None and (wait.fd or 0) % 3 == 1:
            return Verdict("idle" if wait.inbound else "logging")
        if not thread.carrier:
            return Verdict("serving")
        return super().attribute(frames, wait, thread)


@given(st.lists(wait_rows, max_size=4), st.lists(st.sampled_from([80, 8000]), max_size=2))
@settings(max_examples=150, deadline=None)
def test_rows_get_the_class_that_the_rules_give_and_no_question_is_asked_twice(
    batches: list[list[dict[str, Any]]], ports: list[int]
) -> None:
    rules = Asked()
    attributor, known = Attributor(cast(Rules, rules)), Known()
    known.define(definitions())
    contexts = [ThreadContext(f"t{i}", i != 1, i == 0, True) for i in range(3)]
    numbers = np.array([attributor.context(c) for c in contexts])
    for rows in batches:
        table = slices(*rows)
        table = table[table["state"] != RUNNING]  # samples would judge what no rule knows
        of_row = table["tid"].astype(np.int64) - PID
        waits, runs = attributor.classes(table, numbers[of_row], known, np.array(ports, np.int64))
        for row, i, wait, run in zip(table, of_row.tolist(), waits.tolist(), runs.tolist(), strict=True):
            frames = known.stack(int(row["stack"]))
            said = [rules.answer(frames, w, contexts[i]) for w in (plain_wait(row, ports), None)]
            assert [wait, run] == [class_id(v.stage, v.substage, v.reason) for v in said]
    assert len(rules.questions) == len(set(rules.questions))


def test_code_that_no_rule_knows_is_judged_by_samples_of_the_same_call() -> None:
    known = Known()
    known.define(definitions())
    python, libs = len(known.frames), ("libtok.so", "libc.so.6", "libpython")
    known.frames += [Frame("python", "/srv/app.py", "call", 7)]
    known.frames += [Frame("native", f"/lib/{lib}", "_PyEval_EvalFrameDefault" if "py" in lib else "f") for lib in libs]
    first = len(known.stacks)
    known.stacks += [(python + 1 + i, python) for i in range(3)]

    class Libraries(FrameRules):
        def attribute(self, frames: Sequence[Frame], wait: Wait | None, thread: ThreadContext) -> Verdict:
            return Verdict("preprocess" if frames[0].file == "/lib/libtok.so" else "unattributed")

    rows = slices(sample("serving", 2), sample("serving", 1), waited("serving", "lock", 5),
                  waited("serving", "sleep", 5), sample("serving", 9))
    rows["stack"] = first + np.array([0, 1, 1, 1, 2])
    attributor = Attributor(cast(Rules, Libraries()))
    context = attributor.context(ThreadContext("t", True, True, True))
    waits, runs = attributor.classes(rows, np.full(5, context), known, np.zeros(0, np.int64))
    preprocess, nothing = class_id("preprocess", None, None), class_id("unattributed", None, None)
    assert runs.tolist() == [preprocess, preprocess, preprocess, preprocess, nothing]
    assert waits[2:].tolist() == [preprocess, nothing, nothing]
    fewer = rows.copy()
    fewer["count"][0] = 1
    assert attributor.classes(fewer, np.full(5, context), known, np.zeros(0, np.int64))[1][1] == nothing
