"""Whose socket it is, and who may connect."""

from __future__ import annotations

import grp
import os
import socket
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

FOLDER = str(Path(__file__).parent)
if FOLDER not in sys.path:
    sys.path.append(FOLDER)

from agent_loop import NOBODY, as_user, looping, serving, turn  # noqa: E402

from excise_agent.service.control_client import ControlError, NotPermitted, call  # noqa: E402
from excise_agent.service.control_server import ControlServer, Handler  # noqa: E402
from excise_agent.service.socket_file import AgentRuns, SocketError, SocketFile  # noqa: E402

GROUP = "daemon"  # one that every host has
PING: dict[str, Handler] = {"ping": lambda _, peer: {"uid": peer.uid}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "control.sock"


@pytest.fixture
def open_path() -> Iterator[Path]:
    """Where other users can come, which pytest's own folders forbid."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder) / "run" / "control.sock"


def refused(path: Path, gid: int | None = None) -> str:
    with pytest.raises(SocketError) as caught:
        SocketFile(path, gid)
    return str(caught.value)


@pytest.mark.root
def test_the_socket_and_its_folder_are_the_groups_and_nobody_elses(path: Path) -> None:
    gid = grp.getgrnam(GROUP).gr_gid
    before = os.umask(0)
    try:
        file = SocketFile(path, gid)
    finally:
        os.umask(before)
    found, folder = path.stat(), path.parent.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o660, gid)
    assert (stat.S_IMODE(folder.st_mode), folder.st_gid) == (0o750, gid)
    assert stat.S_IMODE((path.parent / "control.lock").stat().st_mode) == 0o600
    file.close()
    assert not path.exists()


def test_without_a_group_it_is_the_owners_alone(path: Path) -> None:
    file = SocketFile(path, None)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    file.close()


def test_a_group_that_is_not_there_leaves_root_and_says_so(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    server = ControlServer(path, "no-such-group", PING)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert 'no group "no-such-group"' in caplog.text
    server.close()


def test_a_long_path_is_no_problem(tmp_path: Path) -> None:
    path = tmp_path / ("long" * 20) / ("longer" * 20) / "control.sock"
    path.parent.parent.mkdir()
    with serving(path, PING) as (server, _), looping(server):
        assert call(path, "ping") == {"uid": os.geteuid()}


# -- agents


def test_a_second_agent_is_refused_and_the_first_goes_on(path: Path) -> None:
    with serving(path, PING) as (server, _):
        with pytest.raises(AgentRuns, match=f"another agent runs: it holds {path}"):
            SocketFile(path, None)
        with looping(server):
            assert call(path, "ping") == {"uid": os.geteuid()}


def test_an_agent_without_the_lock_is_known_by_its_answer(path: Path) -> None:
    with serving(path, PING) as (server, _):
        (path.parent / "control.lock").unlink()
        assert refused(path) == f"another agent answers at {path}"
        turn(server)


def test_the_socket_of_an_agent_that_was_killed_is_replaced(path: Path) -> None:
    child = os.fork()
    if child == 0:
        SocketFile(path, None)
        os._exit(0)  # as good as killed: nothing is tidied up
    os.waitpid(child, 0)
    assert path.is_socket()
    with serving(path, PING) as (server, _), looping(server):
        assert call(path, "ping") == {"uid": os.geteuid()}


def test_an_old_agent_that_ends_late_does_not_remove_the_new_ones_socket(path: Path) -> None:
    old = SocketFile(path, None)
    path.unlink()
    (path.parent / "control.lock").unlink()
    new = SocketFile(path, None)
    old.close()
    assert path.is_socket()
    new.close()


# -- attacks


def test_a_link_in_its_place_is_refused_and_left_alone(path: Path, tmp_path: Path) -> None:
    path.parent.mkdir(0o750)
    (tmp_path / "victim").write_text("x")
    path.symlink_to(tmp_path / "victim")
    assert refused(path) == f"{path} is there and is not a socket: remove it"
    assert (tmp_path / "victim").read_text() == "x" and path.is_symlink()


def test_a_file_in_its_place_is_refused_and_left_alone(path: Path) -> None:
    path.parent.mkdir(0o750)
    path.write_text("precious")
    assert "is not a socket" in refused(path)
    assert path.read_text() == "precious"


def test_a_link_in_place_of_the_lock_is_refused(path: Path, tmp_path: Path) -> None:
    path.parent.mkdir(0o750)
    (path.parent / "control.lock").symlink_to(tmp_path / "victim")
    assert "control.lock is a symbolic link: remove it" in refused(path)
    assert not (tmp_path / "victim").exists()


def test_a_link_in_place_of_the_folder_is_refused(path: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(0o750)
    path.parent.symlink_to(tmp_path / "elsewhere")
    assert "is not a folder (a link counts as none)" in refused(path)
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777])
def test_a_folder_that_others_can_write_is_refused(path: Path, mode: int) -> None:
    path.parent.mkdir()
    path.parent.chmod(mode)
    assert refused(path) == f"others can write to {path.parent}: chmod go-w"


@pytest.mark.root
def test_a_folder_or_socket_of_another_user_is_refused(path: Path) -> None:
    path.parent.mkdir(0o750)
    with socket.socket(socket.AF_UNIX) as one:
        os.chdir(path.parent)
        one.bind(path.name)
        os.chdir("/")
    os.chown(path, NOBODY, NOBODY)
    assert "belongs to user 65534: remove it" in refused(path)
    path.unlink()
    os.chown(path.parent, NOBODY, NOBODY)
    assert "belongs to user 65534: it must be root's or the agent's" in refused(path)


@pytest.mark.root
def test_an_agent_cannot_give_it_to_a_group_that_it_is_not_in(open_path: Path) -> None:
    open_path.parent.mkdir(0o750)
    os.chown(open_path.parent, NOBODY, NOBODY)
    assert "this user is not in group 1, and cannot give it away" in as_user(
        NOBODY, NOBODY, [], lambda: refused(open_path, 1))
    assert as_user(NOBODY, NOBODY, [1], lambda: str(SocketFile(open_path, 1).path)) == str(open_path)


# -- users


def said_to(path: Path, uid: int, gid: int, groups: list[int]) -> str:
    def ask() -> str:
        try:
            return str(call(path, "ping"))
        except ControlError as error:
            return f"{type(error).__name__}: {error}"

    return as_user(uid, gid, groups, ask)


@pytest.mark.root
def test_root_the_agents_user_and_the_groups_members_may_ask_and_nobody_else(open_path: Path) -> None:
    gid = grp.getgrnam(GROUP).gr_gid
    way_in = (f"not permitted to ask the agent: use sudo, or join its group (sudo usermod -aG {GROUP} $USER) "
              "and log in again")
    with serving(open_path, PING, GROUP) as (server, _), looping(server):
        assert said_to(open_path, 0, 0, []) == "{'uid': 0}"
        assert said_to(open_path, NOBODY, gid, []) == f"{{'uid': {NOBODY}}}"
        assert said_to(open_path, NOBODY, NOBODY, [4, gid, 12]) == f"{{'uid': {NOBODY}}}"
        assert said_to(open_path, NOBODY, NOBODY, []) == f"NotPermitted: {way_in}"
        assert server.counts == {"served": 3}
        open_path.parent.chmod(0o755)  # whatever the modes are, the agent looks for itself
        open_path.chmod(0o666)
        assert said_to(open_path, NOBODY, NOBODY, []) == f"NotPermitted: {way_in}"
        assert server.counts["not_permitted"] == 1


@pytest.mark.root
def test_without_a_group_only_root_may_ask(open_path: Path) -> None:
    with serving(open_path, PING) as (server, _), looping(server):
        open_path.parent.chmod(0o755)
        open_path.chmod(0o666)
        assert said_to(open_path, NOBODY, NOBODY, [0]) == "NotPermitted: not permitted to ask the agent: use sudo"


@pytest.mark.root
def test_one_in_more_groups_than_can_be_seen_is_not_let_in_by_mistake(open_path: Path) -> None:
    gid = grp.getgrnam(GROUP).gr_gid
    with serving(open_path, PING, GROUP) as (server, _), looping(server):
        open_path.parent.chmod(0o755)
        open_path.chmod(0o666)
        assert "not permitted" in said_to(open_path, NOBODY, NOBODY, [gid, *range(1000, 1300)])
        assert "uid" in said_to(open_path, NOBODY, gid, list(range(1000, 1300)))


def test_a_missing_folder_is_no_agent(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match="no agent is running"):
        call(tmp_path / "none" / "control.sock", "ping")


def test_permission_is_a_kind_of_its_own() -> None:
    assert issubclass(NotPermitted, ControlError)
