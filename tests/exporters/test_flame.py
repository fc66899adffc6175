"""The flame graph's page: inert, offline, and every nanosecond in it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_report import ker, make_report, make_stacks, nat, py, report_of

from excise.exporters import _tree
from excise.exporters.flame import HELPER_COLOUR, MIXED_COLOUR, STAGE_COLOURS, encode_flame
from excise.frames import Process
from excise.names import STAGES
from excise.report import Report, StackRow

HOSTILE = (
    "</script><img src=x onerror=alert(1)>",
    "<!--<script>",
    "]]>",
    "${title}$csp",
    "a\u2028b\u2029c",
    "\x00\x1b[2J",
    "&lt;b&gt;",
    "'\"`",
    "\ud800",
    "\u202eevil",
)


class Page(HTMLParser):
    """Tags in order, and the text of each script and style."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.bodies: list[tuple[str, dict[str, str | None], str]] = []
        self._open: tuple[str, dict[str, str | None]] | None = None
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = (tag, dict(attrs)) if tag in ("script", "style") else None

    def handle_data(self, data: str) -> None:
        if self._open:
            self.bodies.append((*self._open, data))

    def handle_endtag(self, tag: str) -> None:
        self._open = None

    def profile(self) -> Any:
        (text,) = (body for _, attrs, body in self.bodies if attrs.get("id") == "profile")
        return json.loads(text)


def hostile_report() -> Report:
    """Every text that comes from the target is hostile, in each place where there is one."""
    rows = [
        replace(
            row, thread=name, wait=name, frames=(ker(name), nat(name, name), py(name, name, 1), *row.frames)
        )
        for row, name in zip(make_stacks(), HOSTILE, strict=False)
    ]
    name = HOSTILE[0]
    return replace(
        report_of((*rows, *make_stacks()[len(rows) :])),
        target={"pid": 1, "comm": name},
        processes=(Process(1, 0, name, name),),
        notes=(name,),
        end_reason=name,
        quality={"lost": {name: 1}, "unattributed": {name: 1}, "unattributed_ratio": 0.1},
    )


def test_hostile_names_are_inert_in_html() -> None:
    page = Page(encode_flame(hostile_report(), title=HOSTILE[0]))
    clean = Page(encode_flame(make_report()))
    kinds = [{tag for tag, _ in p.tags} for p in (page, clean)]
    assert kinds[0] == kinds[1]
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert len([tag for tag, _ in page.tags if tag == "script"]) == 3
    names = {name for _, _, name in page.profile()["frames"]}
    assert HOSTILE[0] in names  # as text, whole
    assert "\\u202eevil" in names


def test_the_embedded_data_holds_no_markup_and_no_line_separator() -> None:
    html = encode_flame(hostile_report())
    data = html.partition('id="profile">')[2].partition("</script>")[0]
    assert data.isascii()
    assert not set("<>&") & set(data)
    html.encode("utf-8")  # no lone surrogate is left anywhere


@settings(deadline=None, max_examples=30)
@given(st.text(min_size=1))
def test_any_name_stays_inside_the_data(name: str) -> None:
    row = replace(make_stacks()[0], frames=(py(name, name), nat(name, name)))
    page = Page(encode_flame(report_of((row,)), title=name))
    assert len([tag for tag, _ in page.tags if tag == "script"]) == 3
    page.profile()


def test_the_page_asks_no_network_for_anything() -> None:
    page = Page(encode_flame(make_report()))
    assert not any({"src", "href", "srcset", "action"} & attrs.keys() for _, attrs in page.tags)
    style = "".join(body for tag, _, body in page.bodies if tag == "style")
    assert "url(" not in style and "@import" not in style


def test_the_policy_lets_only_our_scripts_run() -> None:
    page = Page(encode_flame(hostile_report(), title=HOSTILE[0]))
    (policy,) = (a["content"] or "" for tag, a in page.tags if tag == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy and "http" not in policy
    allowed = set(re.findall(r"'sha256-([^']+)'", policy))
    code = [body for tag, attrs, body in page.bodies if attrs.get("type") != "application/json"]
    assert {base64.b64encode(hashlib.sha256(c.encode()).digest()).decode() for c in code} == allowed
    assert not any("style" in attrs for _, attrs in page.tags)  # the policy would refuse it


def test_the_page_carries_the_licences_of_what_it_embeds() -> None:
    html = encode_flame(make_report())
    for words in (
        "d3-flame-graph 5.0.0 (Apache-2.0)",
        "d3-selection 3.0.0 (ISC)",
        "Mike Bostock",
        "Robert Penner",
    ):
        assert words in html


def test_the_header_says_the_ai_tax_with_its_error() -> None:
    html = encode_flame(make_report())
    assert "61.9 %<small> ± 1.1 % AI tax</small>" in html
    assert "Of the 15.3 s of carrier time that was not idle or handed off, 5.85 s were the model." in html


def test_unknown_is_not_zero_on_the_page() -> None:
    html = encode_flame(make_report(ai_tax_ratio=None, ai_tax_se=None))
    assert "AI tax <small>not measured</small>" in html
    assert "<dt>network</dt><dd>not measured</dd>" in html
    compute = html.partition("compute</th>")[2].partition("</tr>")[0]
    assert '<td class="zero">-</td>' in compute  # gpu, which no probe measured


def test_every_stage_has_a_colour_of_its_own() -> None:
    assert tuple(STAGE_COLOURS) == STAGES
    colours = [*STAGE_COLOURS.values(), HELPER_COLOUR, MIXED_COLOUR]
    assert len(set(colours)) == len(colours)


def class_sums(rows: list[StackRow]) -> Counter[tuple[str, str]]:
    sums: Counter[tuple[str, str]] = Counter()
    for row in rows:
        sums[row.stage if row.carrier else "helper threads", row.state] += row.ns
    return sums


def page_sums(profile: dict[str, Any]) -> Counter[tuple[str, str]]:
    sums: Counter[tuple[str, str]] = Counter()
    for own in profile["self"]:
        for cls, ns in zip(own[::2], own[1::2], strict=True):
            group, state = profile["classes"][cls]
            sums[profile["groups"][group]["name"], profile["states"][state]] += ns
    return sums


def test_every_nanosecond_of_every_stage_and_state_is_on_the_page() -> None:
    report = make_report()
    assert page_sums(Page(encode_flame(report)).profile()) == class_sums(list(report.stacks))


def test_parents_come_before_their_children() -> None:
    parents = Page(encode_flame(make_report())).profile()["parents"]
    assert parents[0] == -1
    assert all(0 <= parent < i for i, parent in enumerate(parents) if i)


def test_frames_merge_by_function_and_not_by_line() -> None:
    rows = [
        replace(make_stacks()[0], state="running_user", frames=(py("a.py", "f", line),), ns=line)
        for line in (3, 8)
    ]
    (child,) = _tree.merge(rows).children.values()
    assert child.line() == 8
    assert sum(child.self_ns.values()) == 11


def test_functions_of_one_name_in_two_files_stay_apart() -> None:
    rows = [replace(make_stacks()[0], frames=(py(file, "f"),)) for file in ("a.py", "b.py")]
    assert len(_tree.merge(rows).children) == 2


def test_a_wait_is_a_frame_at_the_tip() -> None:
    row = replace(make_stacks()[0], state="gil", wait="futex", frames=(py("a.py", "f"),))
    (child,) = _tree.merge([row]).children.values()
    assert [key[2] for key in child.children] == ["[gil: futex]"]


def big_rows(count: int) -> list[StackRow]:
    base = make_stacks()[0]
    states = ("running_user", "gil", "net")
    return [
        replace(
            base,
            stage=STAGES[i % len(STAGES)],
            state=states[i % 3],
            carrier=i % 7 > 0,
            ns=1 + 10**9 // (i + 1),
            frames=tuple(py("a.py", f"f{i % n}") for n in (count, 997, 89, 13, 5)),
        )
        for i in range(count)
    ]


def test_sums_are_preserved_by_pruning() -> None:
    rows = big_rows(5000)
    tree = _tree.merge(rows)
    before = sum((Counter(node.self_ns) for node in tree.walk()), Counter())
    assert _tree.prune(tree) > 0
    assert sum((Counter(node.self_ns) for node in tree.walk()), Counter()) == before


def test_a_huge_tree_is_capped() -> None:
    tree = _tree.merge(big_rows(50_000))
    assert sum(1 for _ in tree.walk()) > 100_000
    _tree.prune(tree, max_nodes=2_000)
    nodes = list(tree.walk())
    assert len(nodes) <= 3 * 2_000
    assert any(re.fullmatch(r"\(\d+ smaller\)", node.key[2]) for node in nodes)


def test_pruning_is_relative_to_each_view() -> None:
    """A busy stack under 0.05 % of everything, because the target idles, is still drawn in the busy view."""
    base = make_stacks()[0]
    idle = replace(base, stage="idle", state="net", ns=10**12, frames=(py("a.py", "serve"),))
    busy = [
        replace(base, stage="compute", state="running_user", ns=10**6, frames=(nat("m.so", f"k{i}"),))
        for i in range(20)
    ]
    tree = _tree.merge([idle, *busy])
    assert _tree.prune(tree) == 0
    assert len(tree.children) == 21


@pytest.mark.parametrize("depth", [1, 5000])
def test_deep_stacks_do_not_nest_in_the_data(depth: int) -> None:
    row = replace(make_stacks()[0], frames=tuple(py("a.py", f"f{i}") for i in range(depth)))
    assert len(Page(encode_flame(report_of((row,)))).profile()["parents"]) >= depth


def test_an_empty_report_is_a_page() -> None:
    assert Page(encode_flame(report_of(()))).profile()["parents"] == [-1]


def test_the_drawn_share_is_said() -> None:
    """Lost records have time in the ledger but no stack."""
    report = make_report()
    half = replace(report, stacks=report.stacks[::2])
    drawn = re.search(r"stacks with ([\d.]+ s) of the 38.9 s of carrier time", encode_flame(half))
    assert drawn and drawn[1] != "38.9 s"
