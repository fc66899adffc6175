"""A target that says when it is ready, is told to go, and says what it measured itself: one JSON line each.

    with Dialogue("tree.py", "forks") as target:
        target.hear()
        seen = observe(target.pid, 20, stop=target.done_after_go())
        target.told     # what it said when it was done
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TARGETS = Path(__file__).parents[1] / "targets"
DEADLINE_S = 30.0


class Dialogue:
    """Ends its target, and nothing else, by pid."""

    def __init__(self, script: str | Path, *arguments: str, python: str = sys.executable) -> None:
        self.process = subprocess.Popen(
            [python, TARGETS / script, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        self.pid = self.process.pid
        self.told: Any = None
        self._heard = b""
        self._went = False

    def hear(self, timeout_s: float = DEADLINE_S) -> Any:
        """The next line that it says."""
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._heard:
            left = max(0.0, deadline - time.monotonic())
            assert self._listen(left), f"the target said nothing in {timeout_s} s"
        line, _, self._heard = self._heard.partition(b"\n")
        self.told = json.loads(line)
        return self.told

    def _listen(self, timeout_s: float) -> bool:
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], timeout_s)[0]:
            return False
        got = self.process.stdout.read(65536)
        assert got, "the target ended without a word"
        self._heard += got
        return True

    def say(self, word: str = "go") -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n".encode())

    def done_after_go(self) -> Callable[[Any], bool]:
        """For `observe`: tells it to go once the watch has begun, and ends the watch when it has answered."""

        def done(_seen: Any) -> bool:
            if not self._went:
                self._went = True
                self.say()
            if b"\n" not in self._heard:
                self._listen(0)
            if b"\n" in self._heard:
                self.hear()
                return True
            return False

        return done

    def __enter__(self) -> Dialogue:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.process.kill()
        self.process.wait(DEADLINE_S)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
