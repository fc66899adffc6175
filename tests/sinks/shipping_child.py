"""Produces windows and ships them, until it is killed; with "drain", only ships what is left and tells its state.

    shipping_child.py FOLDER ADDRESS [drain]
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from sample_items import AGENT, entry

from excise.spool import Cursor, Spool
from excise_agent.config.schema import ForwardConfig
from excise_agent.sinks.forward import ForwardSink
from excise_agent.sinks.shipper import Shipper


def main(folder: Path, address: str, drain: bool) -> None:
    spool = Spool(folder / "spool", AGENT.agent, 100 << 20, 86_400.0)
    cursor = Cursor(folder / "spool", "forward")
    ship = Shipper(ForwardSink(ForwardConfig(address=address)), cursor, AGENT, folder / "counts", draw=lambda: 0.0)
    if not drain:
        ship.start()
        while True:
            for sequence in spool.reserve(3):
                spool.append(entry(sequence))
    while cursor.lag():
        ship.step()
    print(json.dumps(asdict(ship.state()) | {"produced": spool.reserve(1)[0] - 1}))


main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:] == ["drain"])
