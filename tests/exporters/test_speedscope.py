"""speedscope's format, as its schema words it."""

from __future__ import annotations

import json

from sample_report import make_report, report_of

from excise.exporters.speedscope import encode_speedscope


def test_weights_are_nanoseconds_and_preserve_the_sum() -> None:
    report = make_report()
    profiles = json.loads(encode_speedscope(report))["profiles"]
    assert {p["unit"] for p in profiles} == {"nanoseconds"}
    assert sum(sum(p["weights"]) for p in profiles) == sum(row.ns for row in report.stacks)
    assert all(
        p["endValue"] == sum(p["weights"]) and len(p["weights"]) == len(p["samples"]) for p in profiles
    )


def test_samples_name_frames_root_first() -> None:
    document = json.loads(encode_speedscope(make_report()))
    names = [frame["name"] for frame in document["shared"]["frames"]]
    samples = [[names[i] for i in s] for p in document["profiles"] for s in p["samples"]]
    assert ["idle", "Thread._bootstrap"] in [s[:2] for s in samples]
    assert "[gil: futex]" in {s[-1] for s in samples}


def test_equal_frames_are_shared() -> None:
    frames = json.loads(encode_speedscope(make_report()))["shared"]["frames"]
    keys = [(f["name"], f.get("file"), f.get("line")) for f in frames]
    assert len(keys) == len(set(keys))


def test_an_empty_report_is_a_document_without_profiles() -> None:
    assert json.loads(encode_speedscope(report_of(())))["profiles"] == []
