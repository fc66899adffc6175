"""kill -9 at any moment: every window is at the server, once its repeats are dropped, or counted as lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from forward_peer import ForwardPeer

ROOT = Path(__file__).parents[2]
PLENTY_S = 120.0


def child(folder: Path, peer: ForwardPeer, *more: str) -> subprocess.Popen[bytes]:
    paths = [str(ROOT / "src"), str(ROOT / "agent"), str(Path(__file__).parent)]
    program = Path(__file__).with_name("shipping_child.py")
    return subprocess.Popen([sys.executable, program, folder, peer.address, *more],
                            stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": ":".join(paths)})


def test_an_agent_that_is_killed_again_and_again(tmp_path: Path) -> None:
    windows: dict[int, dict[str, object]] = {}
    lost: dict[int, str] = {}

    def take(record: dict[str, object]) -> int:
        gap = record.get("lost")
        if isinstance(gap, dict):
            lost.update(dict.fromkeys(range(gap["first"], gap["last"] + 1), gap["reason"]))
            return gap["last"]
        sequence = record["sequence"]
        assert isinstance(sequence, int)
        assert windows.setdefault(sequence, record) == record, "a repeat is the same"
        return sequence

    with ForwardPeer() as peer:
        for more in (1, 7, 40, 95):
            running = child(tmp_path, peer)
            for _ in range(more):
                take(peer.entry()["record"])
            running.kill()
            running.communicate(timeout=PLENTY_S)
        told, _ = child(tmp_path, peer, "drain").communicate(timeout=PLENTY_S)
        state = json.loads(told)
        while len(windows.keys() | lost.keys()) < state["produced"]:
            take(peer.entry()["record"])
    assert windows.keys() | lost.keys() == set(range(1, state["produced"] + 1))
    assert not windows.keys() & lost.keys() and set(lost.values()) <= {"crash"}
    assert state["delivered"] == len(windows) and state["lost"].get("crash", 0) == len(lost)
