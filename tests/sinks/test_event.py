"""What is in an event, and what is not: docs/shipping.md lists all of it."""

from __future__ import annotations

import re
from pathlib import Path

from sample_items import AGENT, entry

from excise.spool import Gap
from excise_agent.sinks.event import event_of
from excise_agent.sinks.rows import TABLES, rows_of

DOCS = (Path(__file__).parents[2] / "docs" / "shipping.md").read_text()


def test_the_docs_list_every_key_of_an_event() -> None:
    table = DOCS.split("An event is a flat map:")[1].split("nil is")[0]
    listed = [key for row in re.findall(r"^\| (`.*?`) \|", table, re.M) for key in re.findall(r"`(\w+)`", row)]
    assert sorted(listed) == sorted(event_of(AGENT, entry(1)))
    assert sorted(event_of(AGENT, Gap(1, 2, "crash"))) == sorted([*listed[:4], "sequence", "lost"])


def test_the_docs_list_every_table() -> None:
    listed = re.findall(r"^\| `(\w+)` \|", DOCS.split("| table | a row is |")[1].split("```")[0], re.M)
    assert sorted(listed) == sorted(TABLES)


def test_of_a_process_its_name_is_all_that_is_text() -> None:
    """A row's texts come from here, and from nowhere else."""
    known = {"unit", "vllm.service", "vllm", "gpu-01", AGENT.agent, AGENT.version, "ring_full", "crash",
             "compute", "compute.cpu", "preprocess", "idle", "running_user", "gil", "net",
             "python", "app/resize.py", "Resize.run"}
    texts = {text for rows in rows_of(AGENT, [entry(1), Gap(2, 3, "crash")], stacks=True).values() for row in rows
             for value in row.values() for text in (value if isinstance(value, list) else [value])
             if isinstance(text, str)}
    assert texts <= known
