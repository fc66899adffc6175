"""A summary as the columns of the wire format, in an order that does not depend on how it was made."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from excise.summary._definitions import Numbering
from excise.summary._lists import Lists
from excise.summary._parts import CellKey, HelperKey, LengthKey
from excise.summary._summary import Summary
from excise.summary._varint import pack, rounded, zigzag
from excise.summary.histogram import LOWEST_BUCKET
from excise.summary.numbers import TABLES, Numbers
from excise.summary.schema import SUMMARY_KEYS

_Columns = defaultdict[str, list[int]]


def encode_summary(summary: Summary, numbering: Numbering, lists: Lists) -> dict[int, object]:
    """Content of a summary frame; what it needs defined is left in `numbering`. ValueError: does not fit the format."""
    columns: _Columns = defaultdict(list)
    columns["observed_ns"] = [summary.observed_ns]
    _spans(summary, numbering, columns)
    stages = {name: i for i, name in enumerate(lists.stages)}
    for stage in sorted(summary.stage_variances_us2, key=lambda s: stages[s]):
        columns["stage_variances"] += (stages[stage], *rounded(summary.stage_variances_us2[stage]))
    error = summary.tax_error
    if error is not None:
        columns["tax_error"] = [zigzag(v) for v in (error.compute_us2, error.tax_us2, error.covariance_us2)]
    for section in TABLES:
        columns[section] = _numbers(section, getattr(summary, section))
    for name, counts in (("lost", summary.lost), ("steps", summary.steps)):
        columns[name] = [v for text in sorted(counts) for v in (numbering.string(text), counts[text])]
    for process in sorted(summary.processes, key=lambda p: (summary.processes[p].pid, p)):
        flags = 1 if process in summary.roots else 0
        columns["processes"] += (numbering.process(process, summary.processes[process]), flags)
    _by_process(summary, numbering, lists, columns)
    content: dict[int, object] = {SUMMARY_KEYS["windows"]: summary.windows}
    for name, number in SUMMARY_KEYS.items():
        if columns.get(name):
            content[number] = pack(columns[name])
    return content


def _spans(summary: Summary, numbering: Numbering, columns: _Columns) -> None:
    for number in sorted(summary.sources):
        source = summary.sources[number]
        capabilities = numbering.capabilities(source.capabilities, summary.capabilities[source.capabilities])
        for span in summary.spans[number]:
            columns["spans"] += (
                numbering.source(number, source, capabilities), span.start_wall_ns,
                span.end_wall_ns - span.start_wall_ns, span.start_mono_ns,
                zigzag(span.end_mono_ns - span.start_mono_ns))


def _numbers(section: str, numbers: Numbers) -> list[int]:
    out: list[int] = []
    for number in TABLES[section]:
        if number.name in numbers:
            value = numbers[number.name]
            out += (number.key, 0 if value is None else value + 1)
    return out


def _by_process(summary: Summary, numbering: Numbering, lists: Lists, columns: _Columns) -> None:
    """In the order of the column `processes`."""
    classes = {name: i for i, name in enumerate(lists.classes)}
    states = {name: i for i, name in enumerate(lists.states)}
    kernel_states = {name: i for i, name in enumerate(lists.kernel_states)}
    other_ns = summary.other_ns()
    stacks: defaultdict[CellKey, dict[int, tuple[int, int]]] = defaultdict(dict)
    for stack, time in sorted(summary.stacks.items(), key=lambda item: (-item[1].ns, item[0])):
        frames = [numbering.frame(f, summary.frames[f]) for f in summary.stack_frames[stack.stack]]
        stacks[CellKey(*stack[:3])][numbering.stack(stack.stack, frames)] = time.ns, time.count
    cells: defaultdict[int, list[tuple[int, CellKey]]] = defaultdict(list)
    for key in summary.cells:
        cells[key.process].append((classes[key.cls] * len(states) + states[key.state], key))
    lengths: defaultdict[int, list[tuple[int, LengthKey]]] = defaultdict(list)
    for length in summary.lengths:
        state = states[length.state] + 1 if length.state else 0
        lengths[length.process].append((classes[length.cls] * (len(states) + 1) + state, length))
    helpers: defaultdict[int, list[HelperKey]] = defaultdict(list)
    for helper_key in sorted(summary.helpers):
        helpers[helper_key.process].append(helper_key)

    for process in sorted(summary.processes, key=lambda p: (summary.processes[p].pid, p)):
        columns["helpers"].append(len(helpers[process]))
        for helper_key in helpers[process]:
            helper = summary.helpers[helper_key]
            times = [v for s in sorted(helper.states_ns, key=lambda s: kernel_states[s])
                     for v in (kernel_states[s], helper.states_ns[s])]
            columns["helpers"] += (numbering.string(helper_key.library), helper.threads, len(times) // 2, *times)
        mine = sorted(cells[process])
        columns["cell_counts"].append(len(mine))
        columns["cells"] += _steps(number for number, _ in mine)
        for _, key in mine:
            columns["variances"] += rounded(summary.cells[key].variance_us2)
            columns["other_ns"].append(other_ns[key])
            _stacks(stacks[key], columns)
        histograms = sorted(lengths[process])
        columns["length_counts"].append(len(histograms))
        for (_, length), step in zip(histograms, _steps(number for number, _ in histograms), strict=True):
            histogram = summary.lengths[length]
            columns["lengths"] += (step, histogram.scale, len(histogram.buckets))
            _buckets(histogram.buckets, columns)


def _stacks(stacks: Mapping[int, tuple[int, int]], columns: _Columns) -> None:
    numbers = sorted(stacks)
    columns["stack_counts"].append(len(numbers))
    columns["stacks"] += _steps(numbers)
    columns["stack_ns"] += [stacks[n][0] for n in numbers]
    columns["stack_records"] += [stacks[n][1] for n in numbers]


def _buckets(buckets: Mapping[int, int], columns: _Columns) -> None:
    numbers = sorted(buckets)
    columns["buckets"] += _steps(numbers, LOWEST_BUCKET - 1)
    columns["bucket_counts"] += [buckets[n] - 1 for n in numbers]


def _steps(ascending: Iterable[int], before: int = -1) -> list[int]:
    out = []
    for number in ascending:
        out.append(number - before - 1)
        before = number
    return out
