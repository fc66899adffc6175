"""An agent's id is made once and stays."""

import os
import re
import stat
from pathlib import Path

import pytest

from excise.spool import SpoolError, agent_id


def test_an_id_is_made_once(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    first = agent_id(tmp_path)
    assert re.fullmatch("[0-9a-f]{32}", first) and agent_id(tmp_path) == first
    assert stat.S_IMODE((tmp_path / "agent-id").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["agent-id"]
    assert agent_id(tmp_path / "other") != first


def test_agents_that_start_at_once_agree(tmp_path: Path) -> None:
    for _ in range(20):
        (tmp_path / "agent-id").unlink(missing_ok=True)
        read, write = os.pipe()
        pids = []
        for _ in range(4):
            pid = os.fork()
            if pid == 0:
                try:
                    os.write(write, agent_id(tmp_path).encode())
                finally:
                    os._exit(0)
            pids.append(pid)
        assert all(os.waitpid(pid, 0)[1] == 0 for pid in pids)
        told = os.read(read, 4096).decode()
        os.close(read)
        os.close(write)
        assert told == agent_id(tmp_path) * 4


@pytest.mark.parametrize("content", [b"", b"hello", b"A" * 32, b"a" * 33, bytes(32)])
def test_what_is_no_id_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "agent-id").write_bytes(content)
    with pytest.raises(SpoolError, match="agent-id is not an agent's id: remove it"):
        agent_id(tmp_path)


def test_links_and_other_peoples_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("a" * 32)
    (tmp_path / "agent-id").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SpoolError, match="is not an agent's id"):
        agent_id(tmp_path)
    (tmp_path / "agent-id").unlink()
    (tmp_path / "agent-id").symlink_to(tmp_path / "nowhere")
    with pytest.raises(SpoolError, match="is not an agent's id"):
        agent_id(tmp_path)
    (tmp_path / "agent-id").unlink()
    os.mkfifo(tmp_path / "agent-id")
    with pytest.raises(SpoolError, match="is not an agent's id"):
        agent_id(tmp_path)
    (tmp_path / "agent-id").unlink()
    (tmp_path / "agent-id").write_text("a" * 32)
    os.chown(tmp_path / "agent-id", 12345, -1)
    with pytest.raises(SpoolError, match="is not an agent's id"):
        agent_id(tmp_path)
