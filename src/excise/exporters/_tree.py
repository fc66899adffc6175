"""Stacks merged into one tree, root first: what a flame graph draws.

Children are merged by (kind, file, name). Time stays split by class, (carrier, stage, state), and lies on the
node where its stacks end, so that a viewer can choose classes and add up again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from excise.exporters._labels import ON_CPU, frame_name, missing_stack_label, wait_label
from excise.frames import Frame
from excise.printable import printable
from excise.report import StackRow

Class = tuple[bool, str, str]
"""carrier, stage, state."""

Key = tuple[str, str, str]
"""kind, file, name. Beside the kinds of frames: `root`, `wait`, `missing`, `pruned`."""


@dataclass(slots=True)
class Node:
    key: Key
    self_ns: dict[Class, int] = field(default_factory=dict)
    children: dict[Key, Node] = field(default_factory=dict)
    lines: dict[int, int] = field(default_factory=dict)  # line -> ns that passed through it

    def line(self) -> int:
        """The line with the most time, 0 unknown."""
        return max(self.lines, key=lambda line: self.lines[line], default=0)

    def walk(self) -> Iterator[Node]:
        """This node and all below it, parents before children."""
        todo = [self]
        while todo:
            node = todo.pop()
            yield node
            todo.extend(node.children.values())


def merge(rows: Iterable[StackRow]) -> Node:
    """The tree of every row that has time. Helpers' stacks are in it: their classes tell them apart."""
    root = Node(("root", "", "all"))
    for row in rows:
        if row.ns <= 0:
            continue
        node = root
        for frame in reversed(row.frames):
            node = _child(node, _frame_key(frame))
            if frame.line:
                node.lines[frame.line] = node.lines.get(frame.line, 0) + row.ns
        if not row.frames:
            node = _child(node, ("missing", "", missing_stack_label(row)))
        if wait := wait_label(row):
            node = _child(node, ("wait", "", wait))
        cls = (row.carrier, row.stage, row.state)
        node.self_ns[cls] = node.self_ns.get(cls, 0) + row.ns
    return root


def subtree_sums(root: Node, class_of: Callable[[Class], str]) -> dict[int, dict[str, int]]:
    """id(node) -> group -> ns of the node and everything below, where `class_of` names a class's group."""
    sums: dict[int, dict[str, int]] = {}
    for node in reversed(list(root.walk())):
        mine: defaultdict[str, int] = defaultdict(int)
        for cls, ns in node.self_ns.items():
            mine[class_of(cls)] += ns
        for child in node.children.values():
            for group, ns in sums[id(child)].items():
                mine[group] += ns
        sums[id(node)] = mine
    return sums


def view_of(cls: Class) -> str:
    """The toggle that shows a class. A subtree is small only if it is so in every view that can show it."""
    carrier, stage, state = cls
    if not carrier:
        return "helper"
    if stage in ("idle", "handoff"):
        return stage
    return "cpu" if state in ON_CPU else "off"


def prune(root: Node, floor_ratio: float = 0.0005, max_nodes: int = 20_000) -> int:
    """Fold subtrees under `floor_ratio` of every view into one `(n smaller)` beside the others; sums stay.

    Where that leaves more than `max_nodes`, the floor is doubled until it does not (each kept node may have
    one more: what was folded below it). Returns how many subtrees were folded.
    """
    sums = subtree_sums(root, view_of)
    totals = sums[id(root)]
    peaks = {
        node: max((ns / totals[view] for view, ns in views.items() if totals[view]), default=0.0)
        for node, views in sums.items()
    }
    kept = sorted((peak for peak in peaks.values() if peak >= floor_ratio), reverse=True)
    # A parent's peak is never below its child's, so counting nodes over the floor counts what will be left.
    while len(kept) > max_nodes:
        floor_ratio *= 2
        kept = [peak for peak in kept if peak >= floor_ratio]
    folded = 0
    for node in root.walk():  # lazily: what was folded away is not walked
        small = [key for key, child in node.children.items() if peaks.get(id(child), 1.0) < floor_ratio]
        if len(small) == 1 and not node.children[small[0]].children:
            continue  # folding a single leaf would hide its name and save nothing
        if small:
            _fold(node, small)
            folded += len(small)
    return folded


def _fold(node: Node, small: list[Key]) -> None:
    rest = Node(("pruned", "", f"({len(small)} smaller)"))
    for key in small:
        for lost in node.children.pop(key).walk():
            for cls, ns in lost.self_ns.items():
                rest.self_ns[cls] = rest.self_ns.get(cls, 0) + ns
    node.children[rest.key] = rest


def _child(node: Node, key: Key) -> Node:
    child = node.children.get(key)
    if child is None:
        child = node.children[key] = Node(key)
    return child


def _frame_key(frame: Frame) -> Key:
    return (frame.kind, printable(frame.file), frame_name(frame))
