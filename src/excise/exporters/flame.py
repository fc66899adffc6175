"""One self-contained, interactive flame graph as HTML. It opens from a disk and asks no network for anything.

The page's scripts and styles are named by hash in its Content-Security-Policy, so that nothing else runs:
neither a name from the watched program nor a request to anywhere.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any, Final

from excise.exporters import _tree
from excise.exporters._facts import Fact, busy_ns, header_facts, quality_facts, target_name, tax_sentence
from excise.exporters._labels import ON_CPU
from excise.exporters._ledger import ledger_rows, state_columns
from excise.exporters._units import NOT_MEASURED, duration, percent, plural, ratio
from excise.names import STAGES, STATES
from excise.printable import printable
from excise.report import Report

STAGE_COLOURS: Final = {
    "data_loading": "#4f94d8",
    "preprocess": "#ec8f3c",
    "compute": "#43ae72",
    "logging": "#e2605c",
    "postprocess": "#b482d0",
    "serving": "#dcb93a",
    "runtime": "#b5906c",
    "handoff": "#93afc4",
    "idle": "#bcc2c8",
    "unattributed": "#8d939b",
}
HELPER_COLOUR: Final = "#6bb8b5"
MIXED_COLOUR: Final = "#c9c6bf"


def encode_flame(report: Report, title: str | None = None) -> str:
    """The page. Time of carriers, and of helpers where the reader asks for them."""
    tree = _tree.merge(report.stacks)
    folded = _tree.prune(tree)
    css, vendor, script = _asset("flame.css"), _asset("d3-flame-graph.min.js").strip(), _asset("flame.js")
    quality = [*quality_facts(report), ("drawn", _drawn_words(report, folded))]
    quality += [("note", printable(note)) for note in report.notes]
    return Template(_asset("flame.html")).substitute(
        csp=_policy([vendor, script], css),
        title=escape(printable(title if title is not None else f"Excise: {target_name(report)}")),
        css=css,
        tax=_tax_html(report),
        facts=_facts_html(header_facts(report)),
        ledger=_ledger_html(report),
        legend=_legend_html(),
        quality=_facts_html(quality),
        licences=escape(_asset("d3-flame-graph.LICENSES.txt")),
        data=_inert_json(_profile(tree)),
        vendor=vendor,
        script=script,
    )


def _drawn_words(report: Report, folded: int) -> str:
    """How much of the ledger has a place in the graph: lost records have time but no stack."""
    drawn_ns = sum(row.ns for row in report.stacks if row.carrier and row.ns > 0)
    words = f"stacks with {duration(drawn_ns)} of the {duration(report.total_ns())} of carrier time"
    return f"{words}; {plural(folded, 'small subtree')} as (n smaller), time kept" if folded else words


def _asset(name: str) -> str:
    return files("excise.exporters").joinpath("assets", name).read_text(encoding="utf-8")


def _policy(scripts: Sequence[str], style: str) -> str:
    def source(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    return (
        f"default-src 'none'; script-src {' '.join(map(source, scripts))}; style-src {source(style)}; "
        "base-uri 'none'; form-action 'none'"
    )


def _inert_json(value: Any) -> str:
    """JSON that no HTML parser finds a tag, a comment or an entity in, whatever the names are."""
    text = json.dumps(value, separators=(",", ":"))  # ASCII only: U+2028 and lone surrogates are escaped
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _profile(tree: _tree.Node) -> dict[str, Any]:
    """The tree in columns, parents before children: deep stacks must not nest deeply in JSON."""
    groups: list[dict[str, Any]] = [
        {"name": s, "colour": STAGE_COLOURS[s], "parked": s in ("idle", "handoff"), "helper": False}
        for s in STAGES
    ]
    groups.append({"name": "helper threads", "colour": HELPER_COLOUR, "parked": False, "helper": True})
    classes: dict[tuple[int, int], int] = {}
    frames: dict[tuple[int, int, str], int] = {}
    file_ids: dict[str, int] = {"": 0}
    kinds = ("root", "python", "native", "kernel", "wait", "missing", "pruned")
    parents: list[int] = []
    frame: list[int] = []
    line: list[int] = []
    self_ns: list[list[int]] = []  # a node: class, ns, class, ns, ...
    index: dict[int, int] = {}
    parent_of = {id(child): node for node in tree.walk() for child in node.children.values()}
    for node in tree.walk():
        index[id(node)] = len(parents)
        parent = parent_of.get(id(node))
        parents.append(-1 if parent is None else index[id(parent)])
        kind, file, name = node.key
        file_id = file_ids.setdefault(file, len(file_ids))
        frame.append(frames.setdefault((kinds.index(kind), file_id, name), len(frames)))
        line.append(node.line())
        own: list[int] = []
        for (carrier, stage, state), ns in node.self_ns.items():
            group = STAGES.index(stage) if carrier else len(STAGES)
            own += [classes.setdefault((group, STATES.index(state)), len(classes)), ns]
        self_ns.append(own)
    return {
        "groups": groups, "mixed": MIXED_COLOUR,
        "states": STATES, "on_cpu": [STATES.index(s) for s in ON_CPU],
        "classes": list(classes), "kinds": kinds, "files": list(file_ids), "frames": list(frames),
        "parents": parents, "frame": frame, "line": line, "self": self_ns,
    }


def _tax_html(report: Report) -> str:
    sentence = tax_sentence(report)
    if report.ai_tax_ratio is None:
        number = f'<p class="number">AI tax <small>{NOT_MEASURED}</small></p>'
        return f'{number}<p class="meaning">{escape(sentence)}.</p>'
    error = f" ± {percent(report.ai_tax_se)}" if report.ai_tax_se is not None else ""
    number = f'<p class="number">{percent(report.ai_tax_ratio)}<small>{error} AI tax</small></p>'
    meaning = sentence.partition(": ")[2]
    return f'{number}<p class="meaning">{escape(meaning[:1].upper() + meaning[1:])}.</p>'


def _facts_html(facts: Sequence[Fact]) -> str:
    return f"<dl>{''.join(f'<dt>{escape(name)}</dt><dd>{escape(words)}</dd>' for name, words in facts)}</dl>"


def _swatch(colour: str) -> str:
    square = f'<rect width="1" height="1" fill="{colour}"/>'
    return f'<svg class="swatch" viewBox="0 0 1 1" aria-hidden="true">{square}</svg>'


def _legend_html() -> str:
    entries = [*STAGE_COLOURS.items(), ("helper threads", HELPER_COLOUR), ("several stages", MIXED_COLOUR)]
    chips = "".join(f"<span>{_swatch(colour)}{escape(name)}</span>" for name, colour in entries)
    return f"{chips}<span>paler: native, kernel, [wait]</span>"


def _ledger_html(report: Report) -> str:
    columns = state_columns(report)
    shown = [c for c in columns if c.total_ns != 0]
    head = ["", "time", "of all", "±", "of busy", *(c.name for c in shown)]
    body = []
    for row in ledger_rows(report, columns):
        swatch = _swatch(STAGE_COLOURS[row.name]) if row.name in STAGE_COLOURS else ""
        cells = [
            _cell(duration(row.total_ns), row.total_ns, "strong"),
            _cell(percent(row.share), row.share),
            _cell("" if row.kind == "sum" else percent(row.share_se), row.share_se),
            _cell(percent(row.busy_share) if row.in_busy else "", row.busy_share),
            *(_cell(duration(row.states_ns[c.name]), row.states_ns[c.name]) for c in shown),
        ]
        name = f'<th scope="row">{swatch}{escape(row.label)}</th>'
        body.append(f'<tr class="{row.kind}">{name}{"".join(cells)}</tr>')
    header = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    return (
        f'<section class="ledger" aria-label="Carrier time by stage">{_bar_svg(report)}'
        f"<table><thead><tr>{header}</tr></thead><tbody>{''.join(body)}</tbody></table></section>"
    )


def _cell(text: str, value: float | None, css: str = "") -> str:
    names = f"{css}{'' if value else ' zero'}".strip()
    return f'<td class="{names}">{escape(text)}</td>' if names else f"<td>{escape(text)}</td>"


def _bar_svg(report: Report) -> str:
    """Busy time as one bar, a stage a colour."""
    busy = busy_ns(report)
    if not busy:
        return ""
    parts, at = [], 0.0
    for stage in STAGES:
        width = 0.0 if stage in ("idle", "handoff") else 100 * (ratio(report.stage_ns(stage), busy) or 0.0)
        if width > 0:
            parts.append(
                f'<rect x="{at:.3f}" width="{width:.3f}" height="1" fill="{STAGE_COLOURS[stage]}">'
                f"<title>{stage} {percent(width / 100)} of busy time</title></rect>"
            )
        at += width
    shape = 'viewBox="0 0 100 1" preserveAspectRatio="none"'
    return f'<svg {shape} role="img" aria-label="Busy time by stage">{"".join(parts)}</svg>'
