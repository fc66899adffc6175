"""The keys of the wire format: one table, which the encoder, the decoder and the page docs/wire-format.md follow.

Append only; a number is never used again. A reader ignores keys that it does not know.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

MAGIC: Final = b"excise-summaries "
VERSION: Final = 1
FIRST_LINE: Final = re.compile(re.escape(MAGIC) + rb"([1-9][0-9]{0,8})\n")
FIRST_LINE_BYTES: Final = len(MAGIC) + 10  # at most

Form = Literal["column", "signed column", "names", "integer", "text"]


@dataclass(frozen=True, slots=True)
class Key:
    number: int
    name: str
    form: Form
    what: str


FRAME_TYPES: Final = {"head": 1, "definitions": 2, "summary": 3, "shipment": 4, "gap": 5}
ENVELOPE_TYPES: Final = frozenset({"shipment", "gap"})
"""Of an agent's log (excise/spool). Who reads only summaries passes over them."""

HEAD: Final = (
    Key(1, "classes", "names", "classes of time: a stage, or stage.part"),
    Key(2, "states", "names", "states of carriers"),
    Key(3, "kernel_states", "names", "states of helpers"),
    Key(4, "stages", "names", "stages, for their variances"),
    Key(5, "frame_kinds", "names", "kinds of frames"),
)

DEFINITIONS: Final = (
    Key(1, "strings", "names", "the next strings"),
    Key(2, "frame_kinds", "column", "the next frames, a row each: kind, in the head's list"),
    Key(3, "frame_files", "signed column", "string of the file, less that of the row before (0 before the first)"),
    Key(4, "frame_names", "signed column", "string of the name, less that of the row before"),
    Key(5, "frame_lines", "column", "line, 0 unknown"),
    Key(6, "stack_lengths", "column", "the next stacks, a row each: how many frames"),
    Key(7, "stack_frames", "signed column", "frames of all these stacks, leaf first, each less the one before it"),
    Key(8, "processes", "column", "the next processes, 7 values each: boot id (string), pid, start_ns, comm (string), "
        "Python version (0 none, else string + 1), parent pid, note (string)"),
    Key(9, "capabilities", "column", "the next sets of capabilities: how many, then their strings, sorted by name"),
    Key(10, "sources", "column", "the next sources, 5 values each: boot id, version (strings), set of capabilities, "
        "collector (string), samples per 1000 s and CPU (0: not sampled)"),
)

SUMMARY: Final = (
    Key(1, "windows", "integer", "how many windows it is of"),
    Key(2, "observed_ns", "column", "one value: their lengths added up"),
    Key(3, "spans", "column", "5 values each: source, start (wall, ns since 1970), length (wall), start (monotonic), "
        "length (monotonic, signed), all ns"),
    Key(4, "stage_variances", "column", "2 values each: stage in the head's list, then a rounded value: µs²"),
    Key(5, "tax_error", "signed column", "3 values: variance of compute, variance of the tax, their covariance, µs²; "
        "none: not known"),
    Key(6, "kpis", "column", "2 values each: key of a KPI, its value + 1 or 0 for not known"),
    Key(7, "quality", "column", "2 values each, as above"),
    Key(8, "cost", "column", "2 values each, as above"),
    Key(9, "lost", "column", "2 values each: string, count"),
    Key(10, "steps", "column", "2 values each: string, ns"),
    Key(11, "processes", "column", "a row a process, 2 values each: process, flags (1: a root)"),
    Key(12, "helpers", "column", "by process: how many, and for each of them: library (string), threads, how many "
        "states, then as often state in the head's list, ns"),
    Key(13, "cell_counts", "column", "by process: how many cells"),
    Key(14, "cells", "column", "by cell: class × (number of states) + state, less that of the cell before in this "
        "process, less 1 (before the first: -1)"),
    Key(15, "variances", "column", "by cell: a rounded value, µs²"),
    Key(16, "other_ns", "column", "by cell: ns in no stack"),
    Key(17, "length_counts", "column", "by process: how many histograms"),
    Key(18, "lengths", "column", "by histogram, 3 values each: class × (number of states + 1) + (state + 1, or 0 for "
        "all), as `cells` less the one before less 1; scale; how many buckets"),
    Key(19, "buckets", "column", "by bucket: less the one before in this histogram, less 1 (before the first: -2)"),
    Key(20, "bucket_counts", "column", "by bucket: its count less 1"),
    Key(21, "stack_counts", "column", "by cell: how many stacks"),
    Key(22, "stacks", "column", "by stack: its number, less that of the one before in this cell, less 1"),
    Key(23, "stack_ns", "column", "by stack: ns"),
    Key(24, "stack_records", "column", "by stack: records behind it"),
)
"""40 and 41 are kept for `requests` and `gpu`."""

SHIPMENT: Final = (
    Key(1, "sequence", "integer", "the agent's number for the summary that follows, from 1; none is given twice"),
    Key(2, "workload", "text", "name of the workload that it is of"),
    Key(3, "kind", "text", "where the name is from: rule, unit, container, pod or process"),
    Key(4, "agent", "text", "id of the agent"),
    Key(5, "settled", "integer", "all numbers up to this one are in the log, here or before; 0: none"),
    Key(6, "defined", "integer", "crc32 of its segment's definitions so far: the payloads of the head and of type 2"),
    Key(7, "wall", "column", "2 values: start and end of the summary's spans, wall, ns since 1970; none: not known"),
    Key(8, "log_ns", "integer", "the log's own clock: ns for which it has been written, steps of the clock cut off"),
)

GAP: Final = (
    Key(1, "first", "integer", "the first number that has no summary"),
    Key(2, "last", "integer", "the last one"),
    Key(3, "reason", "text", "why: crash, disk_full, io_error, ..."),
    Key(4, "agent", "text", "id of the agent"),
    Key(5, "settled", "integer", "as in a shipment"),
    Key(6, "log_ns", "integer", "as in a shipment"),
)

HEAD_KEYS: Final = {k.name: k.number for k in HEAD}
DEFINITION_KEYS: Final = {k.name: k.number for k in DEFINITIONS}
SUMMARY_KEYS: Final = {k.name: k.number for k in SUMMARY}
SHIPMENT_KEYS: Final = {k.name: k.number for k in SHIPMENT}
GAP_KEYS: Final = {k.name: k.number for k in GAP}


class SummaryError(Exception):
    """A summary that cannot be written or read. The text is a sentence for the user and names the file."""
