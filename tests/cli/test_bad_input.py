"""What cannot work ends with one sentence that names the thing and the way out, and a fitting exit code."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from excise.recording import RecordingWriter

RECORDINGS = str(Path(__file__).parents[1] / "recording")
if RECORDINGS not in sys.path:
    sys.path.append(RECORDINGS)

from typical_recording import minute  # noqa: E402

CHAIN = Path(__file__).parents[1] / "targets" / "chain.py"
NO, USAGE, PERMISSION, TARGET = 1, 2, 3, 4
NOBODY = 65534
TIMEOUT_S = 60


def excise(*arguments: str, code: int, **options: object) -> str:
    """Runs it and returns what it said on standard error: one sentence."""
    done = run(*arguments, **options)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.strip()


def run(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "excise_agent.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        stdin=subprocess.DEVNULL,
        **options,  # type: ignore[call-overload]
    )


def sentence(said: str) -> str:
    """What was said, when that is one line of excise's."""
    lines = [line for line in said.splitlines() if "excise: compiling" not in line]
    assert len(lines) == 1, said
    assert lines[0].startswith("excise: ")
    return lines[0]


Started = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def started() -> Iterator[Started]:
    """Starts a target that sleeps in chain.py, by a command before it if one is given; it is there then."""
    running: list[subprocess.Popen[str]] = []

    def begin(*before: str, python: str = sys.executable, mode: str = "sleep") -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*before, python, str(CHAIN), mode], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
        )
        running.append(process)
        assert process.stdout is not None and process.stdout.readline()
        return process

    yield begin
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """A good one, made without a kernel."""
    path = tmp_path / "good.excise"
    writer = RecordingWriter(str(path))
    for item in minute(seconds=5):
        writer.write(item)
    writer.close()
    return path


# -- the target


def unused_pid() -> int:
    pid = int(Path("/proc/sys/kernel/pid_max").read_text()) - 1
    while Path(f"/proc/{pid}").exists():
        pid -= 1
    return pid


def test_no_such_process() -> None:
    pid = unused_pid()
    assert sentence(excise("attach", "--pid", str(pid), code=TARGET)) == f"excise: no process has pid {pid}"


def test_kernel_thread() -> None:
    assert "is a kernel thread" in sentence(excise("attach", "--pid", "2", code=TARGET))


def test_thread_instead_of_its_process(started: Started) -> None:
    target = started(mode="thread")
    (tid,) = (t for t in os.listdir(f"/proc/{target.pid}/task") if int(t) != target.pid)
    said = sentence(excise("attach", "--pid", tid, code=TARGET))
    assert said == f"excise: {tid} is a thread of process {target.pid}: attach to that one"


def test_zombie() -> None:
    with subprocess.Popen(["true"], stdout=subprocess.PIPE) as dead:
        os.waitid(os.P_PID, dead.pid, os.WEXITED | os.WNOWAIT)
        assert "a zombie" in sentence(excise("attach", "--pid", str(dead.pid), code=TARGET))


def test_itself() -> None:
    code = "import os, sys; from excise_agent import cli; "
    code += "sys.argv[1:] = ['attach', '-p', str(os.getpid())]; cli.main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=TIMEOUT_S)
    assert (done.returncode, done.stderr) == (TARGET, "excise: that is this excise itself\n")


@pytest.mark.bpf
def test_target_that_ends_at_once_is_still_reported(started: Started) -> None:
    target = started()
    reaper = threading.Thread(target=target.wait)
    reaper.start()
    process = subprocess.Popen(
        [sys.executable, "-m", "excise_agent.cli", "attach", "--pid", str(target.pid), "--json", "-"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )
    target.kill()
    said, complained = process.communicate(timeout=TIMEOUT_S)
    reaper.join()
    assert "Traceback" not in complained
    assert process.returncode == TARGET
    assert str(target.pid) in sentence(complained)
    assert said == ""


@pytest.mark.bpf
@pytest.mark.parametrize("before", [
    (),
    ("unshare", "--mount"),
    ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child"),
], ids=["plain", "mount namespace", "pid namespace"])
def test_target_behind_a_namespace_is_watched(
    before: tuple[str, ...], started: Started, tmp_path: Path
) -> None:
    target = started(*before)
    folded = tmp_path / "folded"
    excise("attach", "--pid", str(target.pid), "-d", "500ms", "-q", "--folded", str(folded), code=0)
    assert "leaf_sleep" in folded.read_text()


@pytest.mark.bpf
def test_target_whose_executable_was_deleted_is_watched(started: Started, tmp_path: Path) -> None:
    python = tmp_path / "python"
    shutil.copy(os.path.realpath(sys.executable), python)
    target = started("env", f"PYTHONHOME={sys.base_prefix}", python=str(python))
    python.unlink()
    folded = tmp_path / "folded"
    excise("attach", "--pid", str(target.pid), "-d", "500ms", "-q", "--folded", str(folded), code=0)
    assert "leaf_sleep" in folded.read_text()


@pytest.mark.bpf
def test_without_privilege_it_says_the_command_that_has_it(started: Started) -> None:
    target = started()
    done = subprocess.run(
        ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--inh-caps=-all",
         "--bounding-set=-all", sys.executable, "-m", "excise_agent.cli", "attach", "--pid", str(target.pid)],
        capture_output=True, text=True, timeout=TIMEOUT_S, env={**os.environ, "HOME": "/nonexistent"},
    )
    assert done.returncode == PERMISSION, done.stderr
    assert f"sudo excise attach --pid {target.pid}" in sentence(done.stderr)


# -- where to


@pytest.mark.bpf
@pytest.mark.parametrize("option", ["--json", "--folded", "--flame", "--speedscope"])
def test_report_file_that_cannot_be_written(option: str, started: Started, tmp_path: Path) -> None:
    path = str(tmp_path / "no such folder" / "report")
    pid = str(started().pid)
    said = sentence(excise("attach", "--pid", pid, "-d", "100ms", "-q", option, path, code=USAGE))
    assert said == f"excise: cannot write {path}: No such file or directory"


@pytest.mark.bpf
@pytest.mark.parametrize("kind", ["symlink", "folder", "missing folder"])
def test_recording_that_cannot_be_written(kind: str, started: Started, tmp_path: Path) -> None:
    path = tmp_path / "run.excise"
    if kind == "symlink":
        path.symlink_to(tmp_path / "elsewhere")
    elif kind == "folder":
        path.mkdir()
    else:
        path = tmp_path / "no such folder" / "run.excise"
    said = sentence(excise("attach", "--pid", str(started().pid), "--record", str(path), code=USAGE))
    assert str(path) in said
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.bpf
def test_full_disk_ends_the_recording_and_not_the_report(started: Started, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], check=True)
    try:
        (disk / "filler").write_bytes(b"x" * 60 * 1024)
        path = disk / "run.excise"
        target = started(mode="exec-churn")
        done = run("attach", "--pid", str(target.pid), "-d", "3s", "--rate", "499", "--record", str(path))
        assert done.returncode == 0, done.stderr
        assert "preprocess" in done.stdout or "unattributed" in done.stdout
        assert "the recording ends here, the report goes on" in sentence(done.stderr)
        assert str(path) in done.stderr
        assert run("dump", str(path)).returncode == 0
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("second", ["--folded", "--flame", "--speedscope"])
def test_two_outputs_cannot_share_standard_output(second: str, recording: Path) -> None:
    said = sentence(excise("report", str(recording), "--json", "-", second, "-", code=USAGE))
    assert "only one of" in said


@pytest.mark.bpf
def test_two_outputs_are_refused_before_anything_is_watched(started: Started) -> None:
    pid = str(started().pid)
    done = run("attach", "--pid", pid, "-d", "1h", "--json", "-", "--folded", "-")
    assert done.returncode == USAGE
    assert "only one of" in done.stderr


# -- what from


VIEWS = (["report"], ["flame", "-o", os.devnull], ["folded"], ["dump"])


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view[0])
@pytest.mark.parametrize("kind", ["missing", "empty", "foreign", "folder"])
def test_what_is_no_recording_is_called_so(kind: str, view: list[str], tmp_path: Path) -> None:
    path = tmp_path / "run.excise"
    if kind == "empty":
        path.touch()
    elif kind == "foreign":
        path.write_bytes(b"\x7fELF" + bytes(4096))
    elif kind == "folder":
        path.mkdir()
    said = sentence(excise(view[0], str(path), *view[1:], code=USAGE))
    assert str(path) in said


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view[0])
def test_what_is_whole_of_a_cut_recording_is_read(view: list[str], recording: Path) -> None:
    whole = recording.read_bytes()
    recording.write_bytes(whole[: len(whole) * 3 // 4])
    said = sentence(excise(view[0], str(recording), *view[1:], code=0))
    assert f"{recording} is cut off" in said


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view[0])
def test_damaged_recording_is_refused(view: list[str], recording: Path) -> None:
    whole = bytearray(recording.read_bytes())
    for at in range(len(whole) // 2, len(whole) // 2 + 64):
        whole[at] ^= 0xFF
    recording.write_bytes(whole)
    done = run(view[0], str(recording), *view[1:])
    assert done.returncode in (0, USAGE)
    assert str(recording) in sentence(done.stderr.strip())


def test_broken_rule_file_is_named_with_line_and_nearest_name(recording: Path, tmp_path: Path) -> None:
    rules = tmp_path / "mine.toml"
    rules.write_text('[[rule]]\nstage = "preproces"\nframes = ["mine.*"]\nwhy = "ours"\nexample = "m.f"\n')
    said = sentence(excise("report", str(recording), "--stages", str(rules), code=USAGE))
    assert str(rules) in said
    assert "preprocess" in said.replace("preproces'", "").replace('preproces"', "")


@pytest.mark.parametrize("text", ["", "[[rule", "rule = 3\n", "\xff"])
def test_rule_file_that_is_none(text: str, recording: Path, tmp_path: Path) -> None:
    rules = tmp_path / "mine.toml"
    rules.write_bytes(text.encode("latin-1"))
    done = run("report", str(recording), "--stages", str(rules), "--quiet")
    assert done.returncode == (0 if not text else USAGE), done.stderr
    if text:
        assert str(rules) in sentence(done.stderr.strip())


def test_rule_file_that_is_missing(recording: Path, tmp_path: Path) -> None:
    path = str(tmp_path / "none.toml")
    assert path in sentence(excise("report", str(recording), "--stages", path, code=USAGE))


# -- options


@pytest.mark.parametrize("option, value, way_out", [
    ("--duration", "banana", "like 10s, 2m or 500ms"),
    ("--duration", "-1s", "like 10s, 2m or 500ms"),
    ("--duration", "nan", "like 10s, 2m or 500ms"),
    ("--duration", "inf", "like 10s, 2m or 500ms"),
    ("--rate", "-1", "0<=x<=1000"),
    ("--rate", "nan", "0<=x<=1000"),
    ("--rate", "much", "not a valid float"),
    ("--pid", "0", "1<=x<="),
    ("--pid", "python", "not a valid integer"),
])
def test_option_that_makes_no_sense(option: str, value: str, way_out: str) -> None:
    pid = [] if option == "--pid" else ["--pid", str(os.getpid())]
    said = excise("attach", *pid, option, value, code=USAGE)
    assert option in said and way_out in said


def test_pid_is_asked_for() -> None:
    assert "--pid" in excise("attach", code=USAGE)


# -- whoever stops listening


@pytest.mark.parametrize("view", [["report"], ["folded"], ["dump"], ["flame"]], ids=lambda view: view[0])
def test_reader_that_leaves_is_no_error(view: list[str], recording: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "excise_agent.cli", view[0], str(recording), *view[1:]],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    complained = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(TIMEOUT_S) in (0, 1, 141, -13)
    assert complained == ""
