"""The log's frames by the decoder that was written from docs/wire-format.md, and the page docs/spool.md by the code."""

import re
from pathlib import Path

from independent_decoder import decode, envelopes
from spools import AGENT, SECOND, START_NS, TRITON, VLLM, Clock, entry, files, make

from excise.spool import Entry
from excise.spool import spool as spool_module
from excise.summary import SegmentEncoder, decode_segments, encode_segment

PAGE = (Path(__file__).parents[2] / "docs" / "spool.md").read_text()


def test_a_decoder_written_from_the_page_reads_whose_each_summary_is(tmp_path: Path) -> None:
    clock = Clock()
    spool = make(tmp_path / "s", clock)
    first, second, third, fourth, fifth = spool.reserve(5)
    spool.append(entry(first))
    clock.now += 5 * SECOND
    spool.append(entry(third, TRITON))
    spool.append(entry(second))
    spool.lose(fourth, fifth, "target_gone")
    data = files(tmp_path / "s")[0].read_bytes()
    start = START_NS

    def shipment(number: int, workload: str, settled: int, log_ns: int) -> dict[str, object]:
        begin = start + number * 10 * SECOND
        return {"sequence": number, "workload": workload, "kind": "unit", "agent": AGENT, "settled": settled,
                "whole": True, "wall": [begin, begin + 10 * SECOND], "log_ns": log_ns}

    assert envelopes(data) == [
        shipment(1, VLLM.name, 1, 0), shipment(3, TRITON.name, 1, 5 * SECOND), shipment(2, VLLM.name, 3, 5 * SECOND),
        {"first": 4, "last": 5, "reason": "target_gone", "agent": AGENT, "settled": 5, "log_ns": 5 * SECOND}]
    made = [entry(first).summary, entry(third).summary, entry(second).summary]
    assert decode(data) == decode(encode_segment(made)) and decode_segments(data) == made


def test_defined_is_right_in_every_segment() -> None:
    encoder = SegmentEncoder(2)
    data = encoder.encode_gap({1: 1, 2: 1, 3: "x", 4: "", 5: 0, 6: 0})
    for number in range(7):
        if number == 5:
            encoder.restart()
        data += encoder.encode(entry(number).summary, {1: number + 1, 2: "", 3: "unit", 4: "", 5: 0, 8: 0})
    assert [found["whole"] for found in envelopes(data) if "whole" in found] == [True] * 7
    assert data.count(b"excise-summaries 1\n") == 4


def test_the_pages_limits_are_the_codes(tmp_path: Path) -> None:
    assert f"a file ends at {spool_module.SEGMENT_BYTES >> 20} MB" in PAGE
    assert f"than {spool_module.MOST_FILES}, or the oldest" in PAGE
    spool = make(tmp_path / "s")
    (number,) = spool.reserve(1)
    assert spool.append(Entry(number, VLLM, entry(1).summary))
    names = {re.sub(r"^\d+", "0000000001", path.name) for path in (tmp_path / "s").iterdir()}
    assert names == {"0000000001.summaries", "numbers", "totals.json", "lock"}
    assert all(f"| `{name}`" in PAGE for name in names)
