"""Shares the made-up summaries of tests/summary."""

import sys
from pathlib import Path

folder = str(Path(__file__).parents[1] / "summary")
if folder not in sys.path:
    sys.path.append(folder)
