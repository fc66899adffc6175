"""Summaries: what is kept of a window and shipped, a kilobyte a process.

`SummaryBuilder` makes one, `merge` adds them up, `compact` drops light stacks, `fit` makes one smaller; the wire
format is docs/wire-format.md.
"""

from excise.summary._compact import compact
from excise.summary._merge import Merger, merge
from excise.summary._names import ALL_STATES, CLASS_NAMES, class_name, stage_of
from excise.summary._parts import (
    Cell,
    CellKey,
    Helper,
    HelperKey,
    LengthKey,
    Program,
    Source,
    Span,
    StackKey,
    StackTime,
    TaxError,
)
from excise.summary._summary import Summary
from excise.summary.build import SummaryBuilder
from excise.summary.histogram import Histogram, bucket_of
from excise.summary.reader import SummaryFile, decode_segments, is_summaries, read_summaries
from excise.summary.schema import SummaryError
from excise.summary.segment import SegmentEncoder, encode_segment, fit
from excise.summary.writer import SummaryWriter

__all__ = [
    "ALL_STATES", "CLASS_NAMES", "Cell", "CellKey", "Helper", "HelperKey", "Histogram", "LengthKey", "Merger",
    "Program", "SegmentEncoder", "Source", "Span", "StackKey", "StackTime", "Summary", "SummaryBuilder",
    "SummaryError", "SummaryFile", "SummaryWriter", "TaxError", "bucket_of", "class_name", "compact",
    "decode_segments", "encode_segment", "fit", "is_summaries", "merge", "read_summaries", "stage_of",
]
