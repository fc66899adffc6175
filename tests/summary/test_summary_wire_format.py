"""docs/wire-format.md against the code: its tables, its example, and a decoder that was written from it."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from independent_decoder import decode
from summary_strategies import UNHURRIED, summaries
from tiny_example import tiny, tiny_file
from typical_summary import windows

from excise.summary import Summary, decode_segments, encode_segment
from excise.summary.numbers import TABLES
from excise.summary.schema import DEFINITIONS, GAP, HEAD, SHIPMENT, SUMMARY

PAGE = (Path(__file__).parents[2] / "docs" / "wire-format.md").read_text()
ROW = re.compile(r"\| (\d+) \| `(\w+)` \| ([\w ]+) \| (.*) \|")


def section(title: str) -> list[tuple[str, ...]]:
    text = PAGE.split(f"{title}\n", 1)[1].split("\n#", 1)[0]
    return [match.groups() for line in text.splitlines() if (match := ROW.fullmatch(line))]


@pytest.mark.parametrize(("title", "keys"), [
    ("## Head (type 1)", HEAD), ("## Definitions (type 2)", DEFINITIONS), ("## Summary (type 3)", SUMMARY),
    ("## Shipment (type 4)", SHIPMENT), ("## Gap (type 5)", GAP)])
def test_the_pages_keys_are_the_codes(title: str, keys: Any) -> None:
    assert section(title) == [(str(k.number), k.name, k.form, k.what) for k in keys]
    assert len({k.number for k in keys}) == len({k.name for k in keys}) == len(keys)


@pytest.mark.parametrize(("title", "table"), [
    ("### KPIs (of the whole tree)", "kpis"), ("### Quality", "quality"), ("### Cost (of the watching)", "cost")])
def test_the_pages_numbers_are_the_codes(title: str, table: str) -> None:
    assert section(title) == [(str(n.key), n.name, n.rule, n.what) for n in TABLES[table]]


def test_the_pages_example_is_byte_for_byte_what_is_written() -> None:
    dump = PAGE.split("```hexdump\n")[1].split("```")[0]
    data = bytearray()
    for line in dump.splitlines():
        offset, _, rest = line.partition("  ")
        assert int(offset, 16) == len(data)
        data += bytes.fromhex(rest[:47])
    assert bytes(data) == tiny_file()
    assert decode_segments(bytes(data)) == [tiny()]


def as_plain(summary: Summary) -> dict[str, Any]:
    """What the independent decoder makes of it."""
    error = summary.tax_error
    return {
        "windows": summary.windows, "observed_ns": summary.observed_ns, "roots": set(summary.roots),
        "processes": {k: {f: getattr(p, f) for f in ("boot_id", "pid", "start_ns", "comm", "python", "parent", "note")}
                      for k, p in summary.processes.items()},
        "spans": {k: list(map(tuple, spans)) for k, spans in summary.spans.items()},
        "cells": {tuple(k): (c.ns, c.variance_us2) for k, c in summary.cells.items()},
        "helpers": {tuple(k): (h.threads, dict(h.states_ns)) for k, h in summary.helpers.items()},
        "lengths": {tuple(k): (h.scale, dict(h.buckets)) for k, h in summary.lengths.items()},
        "stacks": {tuple(k): (t.ns, t.count) for k, t in summary.stacks.items()},
        "stage_variances_us2": summary.stage_variances_us2,
        "tax_error": None if error is None else (error.compute_us2, error.tax_us2, error.covariance_us2),
        "kpis": summary.kpis, "quality": summary.quality, "cost": summary.cost, "lost": summary.lost,
        "steps": summary.steps,
    }


def test_a_decoder_written_from_the_page_reads_a_servers_windows() -> None:
    made = list(windows(3, processes=2))
    assert decode(encode_segment(made) + encode_segment(made[:1])) == [as_plain(s) for s in (*made, made[0])]


@UNHURRIED
@given(summaries())
def test_a_decoder_written_from_the_page_reads_any(summary: Summary) -> None:
    assert decode(encode_segment([summary])) == [as_plain(summary)]


def test_it_names_the_tiny_examples_content() -> None:
    assert decode(tiny_file()) == [as_plain(tiny())]
