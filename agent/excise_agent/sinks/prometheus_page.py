"""Writes docs/metrics.md: `python -m excise_agent.sinks.prometheus_page > docs/metrics.md`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from excise.names import STAGES, STATES
from excise_agent.sinks.prometheus import COUNTERS_S, GAUGES_S, MOST_WORKLOADS
from excise_agent.sinks.prometheus_names import AGENT, WORKLOADS, Family
from excise_agent.sinks.prometheus_sums import MOST_LIBRARIES, MOST_REASONS
from excise_agent.sinks.prometheus_waits import LIMITS

_HEAD: Final = """\
# Metrics

Written from the table in the code by `python -m excise_agent.sinks.prometheus_page`; do not edit.

The agent serves these at `http://127.0.0.1:9477/metrics` (`[prometheus] listen`; loopback only), as Prometheus' text
format or OpenMetrics, gzipped if asked.

```yaml
scrape_configs:
  - job_name: excise               # the alerts know it by this name
    static_configs: [{targets: ["127.0.0.1:9477"]}]
rule_files: [excise.rules.yml]     # packaging/prometheus: alerts, and the sums that they are made of
```

`packaging/grafana/excise.json` is a dashboard. A Prometheus on another host cannot scrape a loopback address: run one
in agent mode (or vmagent, Alloy, ...) beside Excise and let it write to the other.

* **Counters** are sums since the agent started, of whole windows (10 s): they grow once a window, so that `rate` wants
  a range of 40 s or more. Times are integer nanoseconds inside, and printed without loss while below 2^53 ns
  (104 days): the seconds of all stages and states add up to the summaries' total.
* **What is not known is absent**, never 0. A window whose number is not known adds nothing to the number's counter and
  is counted in `excise_unknown_windows_total`. A state that was seen in one stage is 0 in the others.
* **Errors.** The standard error of a stage's share of time is
  `sqrt(increase(excise_stage_variance_seconds_squared_total[1h])) / increase(of all stages' seconds)`.
"""


def page() -> str:
    return "\n".join([_HEAD, _bounds(), "## Of a workload", "", *_table(WORKLOADS), "", "## Of the agent", "",
                      *_table(AGENT), ""])


def _bounds() -> str:
    matrix, waits = len(STAGES) * len(STATES), len(STAGES) * (len(LIMITS) + 2)
    return f"""\
* **Gone workloads.** One that is not watched any more, or had no window for {GAUGES_S:g} s, keeps its counters only, so
  that the last window is still scraped; after {COUNTERS_S:g} s it has no series. If it comes back it counts from
  0, which `rate` and `increase` understand.
* **Series are bounded**: {MOST_WORKLOADS} workloads (`[discovery] most_workloads`), further ones are counted in
  `excise_windows_unexposed_total`; of each {len(STAGES)} stages x {len(STATES)} states = {matrix} series of time,
  {len(STAGES)} x {len(LIMITS) + 2} = {waits} of waits, {MOST_LIBRARIES} libraries and {MOST_REASONS} reasons
  (the rest is `(other)`) and some 60 more, at most. A busy server has about 270.
* **Labels** are printable, of at most 128 characters (longer ones end in a digest) and never hold arguments,
  environment or paths of the watched. Two workloads of one name are told apart by kind: `web`, `web (unit)`.
* **Cost.** A window of a workload of 2 processes takes 0.3 ms; a scrape of one workload (241 series) 2.3 ms of CPU time
  and 4 kB gzipped, of 64 such 280 ms and 74 kB (2 cores of an AMD EPYC, Python 3.11, 2026-11-24). Whoever asks again
  within a second gets the same answer again, at no cost.
* **An error's text** is no label, since it may be anything: `excise status` shows it.
"""


def _table(families: Iterable[Family]) -> list[str]:
    rows = ["| metric | type | unit | labels | what | source | error |", "|---|---|---|---|---|---|---|"]
    for family in families:
        labels = ", ".join(f"`{label}`" for label in family.labels) or "none"
        error = "" if family.kind == "info" else family.error
        cells = (f"`{family.name}`", family.kind, family.unit, labels, family.what, family.source, error)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return rows


if __name__ == "__main__":
    import sys

    sys.stdout.write(page())
