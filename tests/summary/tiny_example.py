"""The example of docs/wire-format.md: two frames of one process, as short as they can be, deflate's blocks stored."""

import zlib

import msgpack

from excise.frames import Frame, Process
from excise.framing import frame_bytes
from excise.summary import Histogram, Span, Summary, SummaryBuilder
from excise.summary._definitions import Numbering
from excise.summary._encode import encode_summary
from excise.summary._lists import Lists

LISTS = Lists(("logging", "idle"), ("running_user", "io"), ("running",), ("logging",), ("python",))


def tiny() -> Summary:
    builder = SummaryBuilder(boot_id="b0", version="0.2", collector="bpf", rate_hz=99, capabilities=["ring"],
                             span=Span(1_000_000_000, 1_000_010_000, 5000, 15_000))
    process = builder.process(Process(42, 7, "py", "3.11.7", 1), root=True)
    builder.cell(process, "logging", "running_user", 1500, 4)
    builder.cell(process, "idle", "io", 8000)
    builder.stack(process, "logging", "running_user", [Frame("python", "a.py", "emit", 3)], 1000, 2)
    builder.helper(process, "libgomp.so.1", 4, {"running": 300})
    builder.lengths(process, "idle", "", Histogram.of([1000, 1000, 2000]))
    builder.errors({"logging": 4}, 0, 4, 0)
    return builder.build(kpis={"cpu_ns": 1500, "rss_bytes": None}, quality={"samples": 3}, cost={},
                         lost={"ring_full": 1}, steps={})


def tiny_file() -> bytes:
    numbering = Numbering(LISTS.frame_kinds)
    summary = encode_summary(tiny(), numbering, LISTS)
    contents = ((1, LISTS.encode()), (2, numbering.take_new()), (3, summary))
    return b"excise-summaries 1\n" + b"".join(frame_bytes(kind, stored(content)) for kind, content in contents)


def stored(content: dict[int, object]) -> bytes:
    """Raw deflate that a human reads: 01, the length and its complement, the bytes."""
    stream = zlib.compressobj(0, zlib.DEFLATED, -15)
    return stream.compress(msgpack.packb(content)) + stream.flush()
