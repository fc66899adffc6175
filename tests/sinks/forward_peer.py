"""Starts the peer of forward_peer.js, with the package in a folder of its own that outlives the tests."""

from __future__ import annotations

import base64
import json
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

VERSION = "1.0.10"
PACKAGE = Path(sys.prefix) / f"fluent-org-logger-{VERSION}"
PLENTY_S = 60.0


def install() -> None:
    """Once; `make test` does it before."""
    if (PACKAGE / "node_modules/@fluent-org/logger").is_dir():
        return
    subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--no-save", "--prefix", PACKAGE,
                    f"@fluent-org/logger@{VERSION}"], check=True, timeout=300)


class ForwardPeer:
    """A running server. `security`, `tls`: see forward_peer.js."""

    def __init__(self, security: dict[str, object] | None = None, tls: dict[str, str] | None = None,
                 port: int = 0) -> None:
        install()
        options = json.dumps({"security": security, "tls": tls, "port": port})
        self._child = subprocess.Popen(
            ["node", Path(__file__).with_suffix(".js"), options], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env=os.environ | {"NODE_PATH": str(PACKAGE / "node_modules")})
        self._lines: queue.Queue[dict[str, Any]] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.port: int = self._lines.get(timeout=PLENTY_S)["port"]
        self.address = f"127.0.0.1:{self.port}"

    def entry(self) -> dict[str, Any]:
        """The next one, waited for."""
        return self._lines.get(timeout=PLENTY_S)

    def kill(self) -> list[dict[str, Any]]:
        """With SIGKILL; what it had told until then."""
        self._child.kill()
        self.close()
        return [self._lines.get_nowait() for _ in range(self._lines.qsize())]

    def close(self) -> None:
        assert self._child.stdin is not None and self._child.stdout is not None
        if self._child.poll() is None:
            self._child.stdin.close()
        self._child.wait(PLENTY_S)
        self._reader.join(PLENTY_S)
        self._child.stdout.close()

    def __enter__(self) -> ForwardPeer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> None:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            self._lines.put(json.loads(line, object_hook=_bytes))


def _bytes(told: dict[str, Any]) -> Any:
    return base64.b64decode(told["base64"]) if told.keys() == {"base64"} else told


if __name__ == "__main__":
    install()
