"""From a ledger's fractions to whole numbers that stay closed."""

import pytest

from excise.frames import Frame, Process
from excise.summary import CLASS_NAMES, Cell, Histogram, Span, SummaryBuilder, TaxError, class_name
from excise.summary.ids import clean

SPAN = Span(0, 10_000, 500, 10_500)
NOTHING: dict[str, int] = {}
FRAME = Frame("python", "a.py", "f", 3)


def builder() -> SummaryBuilder:
    return SummaryBuilder(boot_id="b", version="1", collector="bpf", rate_hz=99, capabilities=["x"], span=SPAN)


def built(made: SummaryBuilder, **numbers: dict[str, int | None]) -> object:
    parts = {"kpis": {}, "quality": {}, "cost": {}, **numbers}
    return made.build(**parts, lost=NOTHING, steps=NOTHING)


def test_rounded_stacks_never_exceed_their_cell() -> None:
    made = builder()
    process = made.process(Process(1, 2, "py"), root=True)
    for number in range(30):
        ns = 1000 / 3
        made.cell(process, "logging", "io", ns)
        made.stack(process, "logging", "io", [Frame("python", "a.py", f"f{number}")], ns, 1)
    summary = made.build(kpis={}, quality={}, cost={}, lost={}, steps={})
    assert summary.total_ns() == 10_000 and list(summary.other_ns().values()) == [30 * 1000 - 20_990 - 9_000]


def test_stacks_beyond_their_cell_are_refused() -> None:
    made = builder()
    process = made.process(Process(1, 2, "py"))
    made.cell(process, "logging", "io", 100)
    made.stack(process, "logging", "io", [FRAME], 200, 1)
    with pytest.raises(ValueError, match="less time than its stacks"):
        built(made)


def test_what_is_not_finite_is_unknown_and_variances_have_seven_bits() -> None:
    made = builder()
    process = made.process(Process(1, 2, "py"))
    made.cell(process, "logging", "io", 100, float("nan"))
    made.cell(process, "logging", "net", 100, 1001.0)
    made.errors({"logging": None, "compute": 3.2}, float("inf"), 1, 1)
    summary = made.build(kpis={}, quality={}, cost={}, lost={}, steps={})
    assert sorted(summary.cells.values(), key=str) == [Cell(100, 1008), Cell(100, None)]
    assert summary.stage_variances_us2 == {"logging": None, "compute": 4} and summary.tax_error is None
    made = builder()
    made.errors({}, 100, 50, -70.5)
    assert made.build(kpis={}, quality={}, cost={}, lost={}, steps={}).tax_error == TaxError(100, 50, -71)


def test_unknown_names_of_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="kpis have no 'cpu'"):
        built(builder(), kpis={"cpu": 1})


def test_equal_rows_add_up_and_empty_ones_are_left_out() -> None:
    made = builder()
    process = made.process(Process(1, 2, "py"))
    for _ in range(2):
        made.cell(process, "logging", "io", 50)
        made.stack(process, "logging", "io", [FRAME], 20, 2)
        made.lengths(process, "logging", "io", Histogram.of([9]))
    made.cell(process, "idle", "net", 0)
    made.lengths(process, "idle", "net", Histogram.of([]))
    made.stack(process, "logging", "io", [], 20, 2)
    summary = made.build(kpis={}, quality={}, cost={}, lost={}, steps={})
    assert [(c.ns, list(summary.other_ns().values())) for c in summary.cells.values()] == [(100, [60])]
    assert [t.count for t in summary.stacks.values()] == [4] and len(summary.lengths) == 1
    assert summary.tax_error is None and summary.ai_tax_ratio() == 1.0


def test_names_are_cut_and_cleaned() -> None:
    assert clean("a\udcffb") == "a\\udcffb"
    assert clean("é" * 2000) == "é" * 1024


def test_a_class_is_named_once() -> None:
    assert class_name("compute", "compute.gpu") == "compute.gpu"
    assert class_name("unattributed", "lost") == "unattributed.lost"
    assert len(set(CLASS_NAMES)) == len(CLASS_NAMES)
