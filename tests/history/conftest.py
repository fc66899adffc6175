"""Streams, summaries and files that other folders' tests make."""

import sys
from pathlib import Path

for folder in ("ledger", "summary", "recording"):
    path = str(Path(__file__).parents[1] / folder)
    if path not in sys.path:
        sys.path.append(path)
