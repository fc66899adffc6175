"""Workloads are scripts, outside any package; what they share with the demo lives beside the demo."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
for folder in (HERE, HERE.parents[1] / "packaging" / "demo"):
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
