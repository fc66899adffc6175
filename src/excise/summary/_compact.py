"""Fewer stacks, the same sums: what is dropped becomes its cell's `other_ns`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from excise.summary._names import stage_of
from excise.summary._parts import StackKey
from excise.summary._summary import Summary

_PARKED = ("idle", "handoff")


def compact(summary: Summary, k: int) -> Summary:
    """Keeps k stacks, a stack of a process in a class and a state being one.

    Half of k is shared evenly among the stages that have stacks, each keeps its heaviest: the stages that users ask
    for are often the light ones. The rest goes to the heaviest of all, those of idle and handoff last, since parked
    threads outweigh everything and say little. Ties are broken by key, so that every host keeps the same.
    """
    ranked = sorted(summary.stacks, key=lambda key: (-summary.stacks[key].ns, key))
    stages = {stage_of(key.cls) for key in ranked}
    share = k // (2 * len(stages)) if stages else 0
    taken = dict.fromkeys(stages, 0)
    kept: set[StackKey] = set()
    for key in ranked:
        stage = stage_of(key.cls)
        if taken[stage] < share:
            taken[stage] += 1
            kept.add(key)
    others = sorted((key for key in ranked if key not in kept), key=lambda key: stage_of(key.cls) in _PARKED)
    return keep_stacks(summary, (*kept, *others[:max(k - len(kept), 0)]))


def keep_stacks(summary: Summary, keys: Iterable[StackKey]) -> Summary:
    """With these stacks only, and the definitions that they use."""
    stacks = {key: summary.stacks[key] for key in keys}
    stack_frames = {key.stack: summary.stack_frames[key.stack] for key in stacks}
    used = {f for frames in stack_frames.values() for f in frames}
    frames = {f: summary.frames[f] for f in used}
    return replace(summary, stacks=stacks, stack_frames=stack_frames, frames=frames)
