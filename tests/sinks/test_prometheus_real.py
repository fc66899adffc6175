"""Against the real Prometheus: it scrapes what we expose, knows our rules, and answers what the dashboard asks."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from prometheus_feed import BATCH, STATUS, VLLM, typical, unknown
from real_prometheus import Prometheus, promtool

from excise.summary import Summary, merge
from excise_agent.sinks.prometheus import Metrics
from excise_agent.sinks.prometheus_names import FAMILIES
from excise_agent.sinks.prometheus_server import MetricsServer

PACKAGING = Path(__file__).parents[2] / "packaging"
RULES = PACKAGING / "prometheus/excise.rules.yml"
DASHBOARD = json.loads((PACKAGING / "grafana/excise.json").read_text())
WINDOWS = 4
SEEN = 'excise_windows_total{workload="vllm.service"}'


class Scraped(NamedTuple):
    """Asked as of the scrape that saw the last window: after one that fails, on a busy host, nothing is there."""

    prometheus: Prometheus
    whole: Summary  # all windows that VLLM had
    at_s: float

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        return self.prometheus.query(expression, self.at_s)

    def number(self, expression: str) -> float | None:
        return self.prometheus.number(expression, self.at_s)


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    """After some windows, each of which was seen by a scrape."""
    metrics = Metrics(lambda: STATUS)
    metrics.drop_connection("slow")
    server = MetricsServer("127.0.0.1:0", metrics)
    server.start()
    host, port = server.address
    prometheus = Prometheus(tmp_path_factory.mktemp("prometheus"), f"{host}:{port}", RULES)
    try:
        prometheus.wait_ready()
        whole, at_s = Summary(), 0.0
        for i, summary in enumerate(typical(WINDOWS)):
            metrics.take(VLLM, summary)
            metrics.take(BATCH, unknown())
            whole = merge(whole, summary)
            at_s = prometheus.wait(lambda windows=i + 1: scrape_of(prometheus, windows), "a scrape of the last window")
        yield Scraped(prometheus, whole, at_s)
    finally:
        prometheus.stop()
        assert server.stop(20)


def scrape_of(prometheus: Prometheus, windows: int) -> float | None:
    """When Prometheus read as many, seconds since 1970; None: not yet."""
    at_s = prometheus.number(f"timestamp({SEEN})")
    return at_s if at_s is not None and prometheus.number(SEEN, at_s) == windows else None


def panels() -> list[tuple[str, str]]:
    """(title, expression) of every query in the dashboard, its variables filled in."""
    out = []
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"].replace("$__rate_interval", "1m")
            out.append((panel["title"], re.sub(r"\$(instance|workload)\b", ".*", expression)))
    return out


def groups(prometheus: Prometheus) -> list[Any]:
    found: list[Any] = prometheus.get("/api/v1/rules")["groups"]
    return found


def test_prometheus_has_the_numbers_that_the_summaries_have(scraped: Scraped) -> None:
    whole = scraped.whole
    for stage, ns in whole.stages_ns().items():
        found = scraped.query(f'excise_stage_seconds_total{{workload="vllm.service", stage="{stage}"}}')
        assert sum(round(seconds * 1e9) for _, seconds in found) == ns
    total = scraped.number('sum(excise_stage_seconds_total{workload="vllm.service"})')
    assert total == pytest.approx(whole.total_ns() / 1e9, rel=1e-12)
    tax = scraped.number("""
        1 - sum(excise_stage_seconds_total{workload="vllm.service", stage="compute"})
        / sum(excise_stage_seconds_total{workload="vllm.service", stage!~"idle|handoff"})""")
    assert tax == pytest.approx(whole.ai_tax_ratio(), rel=1e-9)
    for stage, error_ns in whole.stages_se_ns().items():
        assert error_ns is not None
        name = "excise_stage_variance_seconds_squared_total"
        error = scraped.number(f'sqrt({name}{{workload="vllm.service", stage="{stage}"}})')
        assert error == pytest.approx(error_ns / 1e9, rel=1e-9)
    cpu = scraped.number('excise_workload_cpu_seconds_total{workload="vllm.service"}')
    assert cpu == pytest.approx((whole.kpis["cpu_ns"] or 0) / 1e9, rel=1e-12)


def test_a_quantile_of_waits_is_in_the_bucket_that_the_summary_has_it_in(scraped: Scraped) -> None:
    whole = scraped.whole
    merged = None
    for key, histogram in whole.lengths.items():
        if key.cls == "logging":
            merged = histogram if merged is None else merged.plus(histogram)
    assert merged is not None
    found = scraped.number(
        'histogram_quantile(0.9, excise_wait_seconds_bucket{workload="vllm.service", stage="logging"})')
    known = merged.quantile_ns(0.9)
    assert found is not None and known is not None
    assert known / 4 <= found * 1e9 <= known * 4


def test_every_metric_of_the_table_is_in_prometheus_with_its_type_and_words(scraped: Scraped) -> None:
    known = scraped.prometheus.get("/api/v1/metadata")
    for name, family in FAMILIES.items():
        told = known.get(name) or known[name.removesuffix("_total").removesuffix("_info")]
        assert told[0]["help"] == family.what
        assert told[0]["type"] in (family.kind, "gauge" if family.kind == "info" else "")


def test_what_is_not_known_is_not_there(scraped: Scraped) -> None:
    assert scraped.query('excise_workload_cpu_seconds_total{workload="nightly"}') == []
    assert scraped.query('excise_sink_up{sink="logs"}') == []
    assert scraped.number('sum(excise_unknown_windows_total{workload="nightly"})') == 2 * WINDOWS
    assert scraped.number("excise_ai_tax_ratio{workload=\"nightly\"}") == 0


def test_prometheus_runs_every_rule_without_an_error(scraped: Scraped) -> None:
    def evaluated() -> bool:
        return all(rule["health"] != "unknown" for group in groups(scraped.prometheus) for rule in group["rules"])

    scraped.prometheus.wait(evaluated, "the rules to be evaluated")
    for group in groups(scraped.prometheus):
        for rule in group["rules"]:
            assert rule["health"] == "ok", rule
    tax = 'workload:excise_ai_tax:ratio_rate5m{workload="vllm.service"}'
    scraped.prometheus.wait(lambda: scraped.prometheus.number(tax) is not None, "the recorded tax")
    found = scraped.prometheus.number(tax)
    assert found is not None and 0 < found < 1


@pytest.mark.parametrize("title, expression", panels())
def test_every_query_of_the_dashboard_has_an_answer(scraped: Scraped, title: str, expression: str) -> None:
    assert scraped.query(expression), title


def test_the_dashboards_choices_are_filled_by_labels_that_we_have(scraped: Scraped) -> None:
    for variable in DASHBOARD["templating"]["list"][1:]:
        metric, label = re.fullmatch(r"label_values\((\w+).*, (\w+)\)", variable["query"]["query"]).groups()
        assert all(labels[label] for labels, _ in scraped.query(metric))


def expressions() -> list[str]:
    return [expression for _, expression in panels()] + re.findall(
        r"^ +expr: (?:>-\n((?: {10}.*\n)+)|(.*)\n)", RULES.read_text(), re.MULTILINE)


def test_the_rules_and_the_dashboard_ask_only_for_what_is_exposed() -> None:
    recorded = set(re.findall(r"- record: (\S+)", RULES.read_text()))
    exposed = set(FAMILIES) | {f"{name}_{part}" for name, family in FAMILIES.items() if family.kind == "histogram"
                               for part in ("bucket", "sum", "count")}
    asked = [name for expression in expressions() for name in re.findall(r"[\w:]*\bexcise_[\w:]+", "".join(expression))]
    assert len(expressions()) == len(panels()) + RULES.read_text().count(" expr: ")
    assert {name for name in asked if name not in exposed | recorded} == set()


def test_promtool_accepts_the_rules_and_their_tests_pass() -> None:
    promtool("check", "rules", str(RULES))
    promtool("test", "rules", "excise.rules.test.yml", cwd=RULES.parent)


def test_the_configuration_that_the_page_shows_is_one(tmp_path: Path) -> None:
    shown = re.search(r"```yaml\n(.*?)```", (PACKAGING.parent / "docs/metrics.md").read_text(), re.DOTALL)
    assert shown is not None
    (tmp_path / "prometheus.yml").write_text(shown[1])
    shutil.copy(RULES, tmp_path)
    promtool("check", "config", "prometheus.yml", cwd=tmp_path)


def test_every_alert_has_a_test() -> None:
    tested = (RULES.parent / "excise.rules.test.yml").read_text()
    for alert in re.findall(r"- alert: (\w+)", RULES.read_text()):
        assert re.search(rf"alertname: {alert}\n\s+exp_alerts:\n", tested), alert


def test_panels_do_not_overlap_and_have_ids_of_their_own() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                 for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken and place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
