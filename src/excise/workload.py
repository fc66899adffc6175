"""A workload: the processes of a host that belong together, under the name that the host gives them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

WorkloadKind = Literal["rule", "unit", "container", "pod", "process"]


@dataclass(frozen=True, slots=True, order=True)
class Workload:
    """Its name is read from the host and never guessed.

    rule: the name that the configuration gives; unit: a systemd unit ("vllm.service"); container: an id of 64 hex
    digits, or the name that a runtime gave its control group; pod: a Kubernetes pod's uid; process: none of these is
    known, and the name is that of the tree's first process (comm).
    """

    name: str
    kind: WorkloadKind
