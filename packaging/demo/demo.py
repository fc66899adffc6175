"""Excise beside a server's own clock: starts the server and its load, profiles it, prints both.

    sudo python packaging/demo/demo.py

Needs onnxruntime, onnx and pillow (`pip install "excise[demo]"`), and what `excise attach` needs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from children import Child
from stopwatch import Chronicle, busy_ns

HERE = Path(__file__).parent
FOUR = ("data_loading", "preprocess", "compute", "logging")
WHY = """\
Both count wall time of the server's threads, without idle and handoff. They may differ by a point or two:
* onnxruntime's pool threads spin while they wait for work. Excise lists them as helpers, outside of these
  shares; the server's clock does not see them at all.
* What runs before the first timer of a request and after its last (HTTP parsing, the socket) is `serving` to
  Excise; the server's clock starts `serving` when the first line of a request was read.
* Excise splits time on a CPU by samples: its standard error is in the table above.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--duration", default="10s", help="how long to profile (default: 10s)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER",
                        help="keep recording, report and the server's files in this new folder")
    options = parser.parse_args()
    excise = Path(sys.executable).with_name("excise")
    if not excise.exists():
        print(f"{excise} is not there: install Excise into the Python that runs this demo", file=sys.stderr)
        return 2
    if options.keep:
        options.keep.mkdir(parents=True)
        return show(options.keep, excise, options.duration)
    with tempfile.TemporaryDirectory(prefix="excise-demo-") as folder:
        return show(Path(folder), excise, options.duration)


def show(folder: Path, excise: Path, duration: str) -> int:
    server = Child(HERE / "server.py", "--folder", str(folder))
    load = None
    try:
        said = server.ready()
        load = Child(HERE / "load.py", f"http://127.0.0.1:{said['port']}/infer", "--connections", "2")
        load.ready()
        print(f"Server {said['pid']} answers on port {said['port']}, two clients keep it busy.\n", flush=True)
        report = folder / "report.json"
        command = [str(excise), "attach", "--pid", str(said["pid"]), "--duration", duration,
                   "--json", str(report), "--flame", "excise-demo.html",
                   "--record", str(folder / "demo.excise")]
        with Chronicle(said["clock"]) as chronicle:
            code = subprocess.run(command).returncode
        if code != 0 or not report.exists():
            print(f"excise attach ended with exit status {code}", file=sys.stderr)
            return code or 1
        compare(json.loads(report.read_text()), chronicle)
        print(f"Load: {load.last_words().strip()}")
        print("Flame graph: excise-demo.html")
        return 0
    finally:
        if load is not None:
            load.stop()
        server.stop()


def compare(report: dict[str, Any], chronicle: Chronicle) -> None:
    window = report["window"]
    start_ns = window["start_mono_ns"]
    found = {stage: sum(ns or 0 for ns in states.values()) for stage, states in report["stages"].items()}
    timed = chronicle.between(start_ns, start_ns + window["duration_ns"])
    found_all, timed_all = busy_ns(found), busy_ns(timed)
    if not found_all or not timed_all:
        print("The server did nothing in the window.", file=sys.stderr)
        return
    print(f"\n{'share of busy thread time':28}{'Excise':>10}{'server':>10}{'difference':>13}")
    for stage in FOUR:
        mine, its = 100 * found[stage] / found_all, 100 * timed[stage] / timed_all
        print(f"{stage:28}{mine:9.1f}%{its:9.1f}%{mine - its:+8.1f} points")
    mine = 100 - 100 * sum(found[stage] for stage in FOUR) / found_all
    its = 100 - 100 * sum(timed[stage] for stage in FOUR) / timed_all
    print(f"{'everything else':28}{mine:9.1f}%{its:9.1f}%{mine - its:+8.1f} points\n\n{WHY}")


if __name__ == "__main__":
    sys.exit(main())
