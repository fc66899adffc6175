"""The real Prometheus of Debian, unpacked by `make servers`, on a port of its own; and promtool."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

DEADLINE_S = 60.0
T = TypeVar("T")
_UNPACKED = Path(sys.prefix) / "servers/usr/bin"


def program(name: str) -> str:
    found = _UNPACKED / name if (_UNPACKED / name).exists() else shutil.which(name)
    assert found, f"{name} is missing: run `make servers`"
    return str(found)


def promtool(*arguments: str, text: bytes = b"", cwd: Path | None = None) -> str:
    """What it said on standard error; fails when it found an error."""
    done = subprocess.run([program("promtool"), *arguments], input=text, capture_output=True, timeout=DEADLINE_S,
                          cwd=cwd)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    return done.stderr.decode()


class Prometheus:
    """Scrapes one target twice a second."""

    def __init__(self, folder: Path, target: str, rules: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        shutil.copy(rules, folder / "rules.yml")
        (folder / "prometheus.yml").write_text(json.dumps({
            "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"},
            "rule_files": ["rules.yml"],
            "scrape_configs": [{"job_name": "excise", "static_configs": [{"targets": [target]}]}],
        }))
        self._log = folder / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [program("prometheus"), f"--config.file={folder / 'prometheus.yml'}", "--log.level=warn",
                 f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{self.port}"],
                stdout=log, stderr=log, env={**os.environ, "GOMAXPROCS": "1"})

    def get(self, path: str, **parameters: str) -> Any:
        """`data` of an answer; fails on an error, with its text."""
        url = f"http://127.0.0.1:{self.port}{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=DEADLINE_S) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error

    def query(self, expression: str, at_s: float | None = None) -> list[tuple[dict[str, str], float]]:
        """(labels, value) of each series, now or as it was then (seconds since 1970)."""
        data = self.get("/api/v1/query", query=expression, **({} if at_s is None else {"time": repr(at_s)}))
        if data["resultType"] == "scalar":
            return [({}, float(data["result"][1]))]
        return [(each["metric"], float(each["value"][1])) for each in data["result"]]

    def number(self, expression: str, at_s: float | None = None) -> float | None:
        """Of an expression that gives one value; None: none."""
        found = self.query(expression, at_s)
        assert len(found) <= 1, found
        return found[0][1] if found else None

    def wait_ready(self) -> None:
        self.wait(self._ready, "Prometheus to be ready")

    def wait(self, condition: Callable[[], T | None], what: str) -> T:
        """What it gives, once that is neither None nor False."""
        until = time.monotonic() + DEADLINE_S
        while not (found := condition()):
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < until, f"waited {DEADLINE_S:g} s for {what}: {self._log.read_text()}"
            time.sleep(0.05)
        return found

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=5):
                return True
        except OSError:
            return False

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(20)
