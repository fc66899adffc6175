"""The log read for reports: by workload and time, of a copy, by whoever may, while it is written."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from spools import SECOND, START_NS, TRITON, VLLM, entry, files, fill, make, summary_at

from excise.spool import Entry, SpoolError, WorkloadHistory, history_workloads, read_history
from excise.spool._folder import Folder, segment_name
from excise.workload import Workload

HASH = Workload("f00d" * 16, "container")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """vllm for an hour, triton for its second half, a container for one window; a window a minute."""
    spool = make(tmp_path / "s")
    for minute in range(60):
        for workload in (VLLM, *((TRITON,) if minute >= 30 else ()), *((HASH,) if minute == 59 else ())):
            (number,) = spool.reserve(1)
            assert spool.append(Entry(number, workload, summary_at(START_NS + minute * 60 * SECOND)))
    spool.close()
    return tmp_path / "s"


@pytest.fixture
def reachable() -> Iterator[Path]:
    """Others may go into it, unlike pytest's."""
    with TemporaryDirectory(prefix="excise-test-") as name:
        yield Path(name)


def test_workloads_are_listed_with_their_times(folder: Path) -> None:
    end = START_NS + 59 * 60 * SECOND
    assert history_workloads(folder) == [
        WorkloadHistory(HASH, 1, end - 10 * SECOND, end),
        WorkloadHistory(TRITON, 30, START_NS + 1790 * SECOND, end),
        WorkloadHistory(VLLM, 60, START_NS - 10 * SECOND, end)]


def test_windows_that_reach_into_the_time_are_read(folder: Path) -> None:
    def count(workload: str | None = None, since: float | None = None, until: float | None = None) -> int:
        times = [None if t is None else START_NS + int(t * 60 * SECOND) for t in (since, until)]
        return len(list(read_history(folder, workload, *times)))

    assert count() == 91 and count("vllm.service") == 60
    assert count("triton.service", until=30) == 1
    with pytest.raises(SpoolError, match=r"has nothing of 'triton\.service' in that time; it has vllm\.service"):
        count("triton.service", until=29.5)
    with pytest.raises(SpoolError, match="has no summaries in that time"):
        count("triton.service", since=60)
    assert count("vllm.service", since=49.9) == 10
    assert count(since=49.9) == 21 and count(since=60) == 0 and count(until=-1) == 0
    assert count("vllm.service", 9.9, 19.9) == 11, "that from 19.83 to 20 too"


def test_names_may_be_short_when_they_are_clear(folder: Path) -> None:
    for name in ("vllm.service", "vllm", "vl", "f00d"):
        assert next(iter(read_history(folder, name))).workload in (VLLM, HASH)


def test_a_name_that_is_not_there_lists_those_that_are(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SpoolError, match=rf"s has no workload 'llama'; it has {HASH.name}, triton.service, vllm.ser"):
        read_history(folder, "llama")
    spool = make(folder)
    for name in ("vllm", "vllm-2.service", "many-1", "many-2"):
        assert spool.append(entry(*spool.reserve(1), Workload(name, "unit")))
    with pytest.raises(SpoolError, match="'many' may be any of many-1, many-2: give the whole name"):
        read_history(folder, "many")
    assert {e.workload.name for e in read_history(folder, "vllm")} == {"vllm"}
    with pytest.raises(SpoolError, match="no workload ''"):
        read_history(folder, "")
    with pytest.raises(SpoolError, match="there is no such folder"):
        read_history(tmp_path / "none")
    with pytest.raises(SpoolError, match="has no summaries yet"):
        make(tmp_path / "empty").close()
        read_history(tmp_path / "empty", "vllm")
    assert list(read_history(tmp_path / "empty")) == []


def test_it_is_read_while_the_agent_writes_and_drops(tmp_path: Path) -> None:
    spool = make(tmp_path / "s", most_bytes=8 * 70_000)
    fill(spool, 300)
    reading = read_history(tmp_path / "s")
    got = [next(reading).sequence]
    fill(spool, 400)
    got += [e.sequence for e in reading]
    assert got == sorted(set(got)) and got[-1] == 700 and len(got) < 700


def test_a_copy_is_read_by_another_user_who_may_and_not_by_one_who_may_not(folder: Path, reachable: Path) -> None:
    reachable.chmod(0o755)
    copy = reachable / "copy"
    shutil.copytree(folder, copy)
    private = shutil.copytree(folder, reachable / "private")
    for path in (copy, *copy.iterdir()):
        os.chown(path, 12345, 12345)
    for uid, path, expected in ((12345, copy, 91), (12346, copy, -1), (12345, private, -1)):
        pid = os.fork()
        if pid == 0:
            status = 99
            try:
                os.setgroups([])
                os.setgid(uid)
                os.setuid(uid)
                try:
                    status = len(list(read_history(path)))
                except SpoolError as error:
                    status = 98 if "permission denied" in str(error) else 97
            finally:
                os._exit(status)
        code = os.waitpid(pid, 0)[1]
        assert os.waitstatus_to_exitcode(code) == (expected if expected >= 0 else 98)


def test_a_part_of_the_files_is_enough(folder: Path, tmp_path: Path) -> None:
    spool = make(folder)
    fill(spool, 5)
    spool.close()
    (tmp_path / "part").mkdir()
    shutil.copy(files(folder)[-1], tmp_path / "part")
    assert [e.sequence for e in read_history(tmp_path / "part", "vllm")] == list(range(92, 97))


def test_a_window_without_a_time_is_in_no_time(tmp_path: Path) -> None:
    spool = make(tmp_path / "s")
    timeless = replace(entry(1).summary, spans={}, sources={}, capabilities={})
    assert spool.append(Entry(*spool.reserve(1), VLLM, timeless))
    assert len(list(read_history(tmp_path / "s"))) == 1
    assert list(read_history(tmp_path / "s", since_ns=0)) == []
    assert history_workloads(tmp_path / "s") == [WorkloadHistory(VLLM, 1, None, None)]
    assert spool.state().oldest_wall_ns is None


def test_files_of_other_times_are_not_opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = make(folder)
    assert spool.append(Entry(*spool.reserve(1), VLLM, summary_at(START_NS + 7200 * SECOND)))
    opened: list[str] = []
    real = Folder.open_plain
    monkeypatch.setattr(Folder, "open_plain", lambda self, name: opened.append(name) or real(self, name))
    assert len(list(read_history(folder, "vllm", since_ns=START_NS + 7000 * SECOND))) == 1
    assert segment_name(1) not in opened and segment_name(2) in opened
    with pytest.raises(SpoolError, match=r"nothing of 'triton' in that time; it has vllm\.service"):
        read_history(folder, "triton", since_ns=START_NS + 7000 * SECOND)
    (folder / "totals.json").unlink()
    assert len(list(read_history(folder, "vllm", since_ns=START_NS + 7000 * SECOND))) == 1
    assert segment_name(1) in opened
