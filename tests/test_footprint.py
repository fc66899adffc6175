"""Memory that is freed goes back, and there are descriptors for a thousand processes."""

from __future__ import annotations

import json
import subprocess
import sys

SCRIPT = """
import json, resource, sys
import numpy as np
from excise_agent.footprint import give_back, prepare_footprint

def dirty_bytes():
    for line in open("/proc/self/smaps_rollup"):
        if line.startswith("Private_Dirty:"):
            return int(line.split()[1]) * 1024

soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
prepare_footprint()
np.ones(12 << 20, np.uint8)     # after which glibc would take such arrays from its heap
before = dirty_bytes()
large, small = [], []
for i in range(61):
    large.append(np.ones(1 << 20, np.uint8))
    small.append(np.ones(1000, np.uint8))
full = dirty_bytes()
del large
give_back()
print(json.dumps([full - before, dirty_bytes() - before, resource.getrlimit(resource.RLIMIT_NOFILE), hard]))
"""


def test_large_arrays_go_back_from_between_small_ones_and_all_descriptors_that_we_may_have_are_ours() -> None:
    out = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True).stdout
    full, left, limits, hard = json.loads(out)
    assert full > 60e6
    assert left < 2e6
    assert limits == [hard, hard]
