"""`excise dump` of a file of summaries."""

import json
from pathlib import Path

from click.testing import CliRunner
from typical_summary import windows

from excise.cli import cli
from excise.summary import Summary, SummaryWriter, merge


def file_of(path: Path, *made: Summary) -> str:
    with SummaryWriter(path) as writer:
        for summary in made:
            writer.write(summary)
    return str(path)


def test_a_window_is_a_block_of_text(tmp_path: Path) -> None:
    first, second = windows(2)
    result = CliRunner().invoke(cli, ["dump", file_of(tmp_path / "s", first, second)])
    assert result.exit_code == 0
    blocks = [line for line in result.output.splitlines() if not line.startswith(" ")]
    assert blocks == ["2026-09-21 14:13:20.000 to 2026-09-21 14:13:30.000, 10.0 s in 1 window",
                      "2026-09-21 14:13:30.000 to 2026-09-21 14:13:40.000, 10.0 s in 1 window"]
    for words in ("AI tax ", "process 4242 uvicorn, Python 3.11.7, root", "  logging ", "p50 ", "helper libgomp.so.1: ",
                  "stack 4242 logging ", "lost 17 frame_gone, ", "quota_millicpus not measured", "own cost agent_ns ",
                  "governor full 8.00 s, walk_1_in_4 2.00 s", "unattributed no_rule: "):
        assert words in result.output, words


def test_json_is_one_object_a_line(tmp_path: Path) -> None:
    made = list(windows(2))
    result = CliRunner().invoke(cli, ["dump", "--json", file_of(tmp_path / "s", *made)])
    found = [json.loads(line) for line in result.output.splitlines()]
    assert [f["ai_tax_ratio"] for f in found] == [s.ai_tax_ratio() for s in made]
    assert found[0]["schema"] == "excise.summary/1" and found[0]["kpis"]["quota_millicpus"] is None
    for cell in found[0]["cells"]:
        stacks = [s["ns"] for s in found[0]["stacks"] if (s["class"], s["state"]) == (cell["class"], cell["state"])]
        assert cell["other_ns"] + sum(stacks) == cell["ns"]


def test_nothing_measured_and_strange_names_are_said(tmp_path: Path) -> None:
    strange = merge(next(windows(1)), Summary(lost={"\x1b[31mred": 2}, steps={"a\nb": 1}))
    result = CliRunner().invoke(cli, ["dump", file_of(tmp_path / "s", Summary(), strange)])
    assert result.output.startswith("no window, 0 s in 0 windows\n  AI tax not measured\n")
    assert "\\x1b[31mred" in result.output and "a\\x0ab" in result.output


def test_a_damaged_file_is_a_sentence_and_what_came_before_is_shown(tmp_path: Path) -> None:
    path = file_of(tmp_path / "s", *windows(2))
    data = Path(path).read_bytes()
    Path(path).write_bytes(data[:-3] + b"zzz")
    result = CliRunner().invoke(cli, ["dump", path])
    assert result.exit_code == 2 and f"{path} is damaged at byte " in result.output
    assert "2026-09-21 14:13:20.000" in result.output
    Path(path).write_bytes(data[:-3])
    result = CliRunner().invoke(cli, ["dump", path])
    assert result.exit_code == 0 and f"excise: {path} is cut off; what is whole was read" in result.output


def test_json_of_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r").write_bytes(b"excise-recording 1\n")
    result = CliRunner().invoke(cli, ["dump", "--json", str(tmp_path / "r")])
    assert result.exit_code == 2 and "--json prints these only" in result.output
