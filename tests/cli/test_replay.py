"""The commands that need no host, as a user without privileges runs them."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import excise
from excise.batch import SLICE_DTYPE, TOTALS_DTYPE, Batch, Definitions, End, Header, HostSample, Item, Totals
from excise.frames import Frame, Process, Thread
from excise.ledger.build import build_report
from excise.names import KERNEL_STATE_ID, STAGES, STATES
from excise.recording import RecordingWriter
from excise.report import to_json
from excise.session import Session
from excise.stages import Rules

NOBODY, SECOND = 65534, 1_000_000_000
SCRIPT = Path(sys.executable).with_name("excise")


def stream() -> list[Item]:
    """A server that decodes images, runs a model, logs, and waits for requests."""
    site = "/opt/venv/lib/python3.11/site-packages"
    rows = np.zeros(4, SLICE_DTYPE)
    rows["pid"] = rows["tid"] = 4242
    rows["fd"], rows["syscall"] = 255, -1
    rows["state"] = [0, 0, KERNEL_STATE_ID["net"], KERNEL_STATE_ID["lock"]]
    rows["stack"] = [1, 2, 3, 4]
    rows["count"] = [300, 600, 50, 7]
    rows["weight_ns"] = [0, 0, 5 * SECOND, SECOND]
    rows["syscall"][2:], rows["fd"][2], rows["fd_class"][2] = [232, 202], 5, 12
    sums = np.zeros(1, TOTALS_DTYPE)
    sums["pid"] = sums["tid"] = 4242
    for state, ns in (("running", 4 * SECOND), ("net", 5 * SECOND), ("lock", SECOND)):
        sums["state_ns"][0, KERNEL_STATE_ID[state]] = ns
    sums["lifetime_ns"], sums["sched_running_ns"], sums["sched_runnable_ns"] = 10 * SECOND, 4 * SECOND, -1
    return [
        Header("6f1d", {"cpus": 8}, {"pid": 4242, "comm": "python3", "collector": "bpf"}, 1_790_000_000 * SECOND,
               77 * SECOND, 99.0),
        Definitions(
            [Frame("python", "/srv/app.py", "<module>", 3), Frame("python", f"{site}/PIL/Image.py", "Image.resize", 9),
             Frame("python", f"{site}/torch/nn/modules/module.py", "Module._call_impl", 11),
             Frame("python", "/usr/lib/python3.11/selectors.py", "EpollSelector.select", 5),
             Frame("python", "/srv/app.py", "name; with \\ and \x1b[31m", 8)],
            [(1, 0), (2, 0), (3, 0), (4, 0)], [Process(4242, 5, "python3", "3.11.7")],
            [Thread(4242, 4242, "MainThread", True)]),
        Batch(77 * SECOND, 87 * SECOND, rows, {"frame_gone": 2}),
        Totals(77 * SECOND, 87 * SECOND, sums),
        HostSample(77 * SECOND, 87 * SECOND, {"cpus_used": 0.4, "rss_bytes": 1 << 20, "listen_ports": [8000]}),
        End(87 * SECOND, "duration", {"agent_cpu_ratio": 0.002}),
    ]


@pytest.fixture(scope="module")
def desk() -> Iterator[Path]:
    """A folder that anyone may read and the user that runs the commands may write, with a recording in it."""
    with tempfile.TemporaryDirectory(prefix="excise-replay-") as name:
        path = Path(name)
        with RecordingWriter(path / "run.excise") as writer:
            for item in stream():
                writer.write(item)
        whole = (path / "run.excise").read_bytes()
        (path / "cut.excise").write_bytes(whole[:-40])
        (path / "noise.excise").write_bytes(b"not a recording at all\n" * 9)
        (path / "empty.excise").touch()
        for file in path.iterdir():
            file.chmod(0o644)
        path.chmod(0o777)
        yield path


def readable_by_all(path: Path) -> bool:
    return all(p.stat().st_mode & stat.S_IXOTH for p in path.resolve().parents)


def someone() -> dict[str, Any]:
    """Root runs the commands as nobody, unless nobody could not reach this checkout."""
    packages = (Path(excise.__file__), Path(np.__file__), Path(sys.executable))
    if os.geteuid() == 0 and all(map(readable_by_all, packages)):
        return {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    return {}


def run(desk: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m excise`, at home nowhere."""
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LC_ALL": "C.UTF-8", **environment}
    return subprocess.run([sys.executable, "-P", "-m", "excise", *words], cwd=desk, env=env, capture_output=True,
                          text=True, check=False, stdin=subprocess.DEVNULL, timeout=120, **someone())


def live() -> dict[str, Any]:
    session = Session(Rules.load())
    for item in stream():
        session.feed(item)
    found: dict[str, Any] = json.loads(json.dumps(to_json(build_report(session))))
    return found


def test_the_report_of_a_recording_is_the_live_one(desk: Path) -> None:
    done = run(desk, "report", "run.excise", "--json", "-")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == live()


def test_json_on_standard_output_keeps_the_contract(desk: Path) -> None:
    found = json.loads(run(desk, "report", "run.excise", "--json", "-").stdout)
    assert found["schema"] == "excise.report/1"
    assert found["stages"].keys() == set(STAGES)
    assert all(states.keys() == set(STATES) for states in found["stages"].values())
    assert found["stages"]["preprocess"]["running_user"] == round(4 * SECOND / 3)
    assert found["stages"]["compute"]["running_user"] == round(8 * SECOND / 3)
    assert found["quality"]["lost"] == {"ring_full": 0, "frame_gone": 2}
    assert found["window"]["end_reason"] == "duration"


def test_a_table_is_printed_by_default_and_no_escape_sequence_with_it(desk: Path) -> None:
    done = run(desk, "report", "run.excise")
    assert (done.returncode, done.stderr) == (0, "")
    assert all(stage in done.stdout for stage in STAGES) and "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_quiet_prints_nothing_and_still_writes_its_files(desk: Path) -> None:
    done = run(desk, "report", "run.excise", "-q", "--json", "a.json", "--folded", "a.folded", "--flame", "a.html",
               "--speedscope", "a.speedscope.json")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert json.loads((desk / "a.json").read_text()) == live()
    assert json.loads((desk / "a.speedscope.json").read_text())["profiles"]
    assert "PIL/Image.py" in (desk / "a.folded").read_text() and "<html" in (desk / "a.html").read_text()


def test_a_flame_graph_is_one_page_that_needs_no_network(desk: Path) -> None:
    done = run(desk, "flame", "run.excise", "-o", "flame.html")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    page = (desk / "flame.html").read_text()
    assert "Image.resize" in page and 'src="http' not in page and 'href="http' not in page
    assert run(desk, "flame", "run.excise").stdout == page


@pytest.mark.parametrize(("mode", "micros"), [("all", 10_000_000), ("cpu", 4_000_000), ("off", 6_000_000)])
def test_folded_stacks_add_up_to_the_time_of_their_mode(desk: Path, mode: str, micros: int) -> None:
    done = run(desk, "folded", "run.excise", "--mode", mode)
    assert (done.returncode, done.stderr) == (0, "")
    assert sum(int(line.rpartition(" ")[2]) for line in done.stdout.splitlines()) == micros


def test_a_dump_has_a_line_for_each_thing_that_was_recorded(desk: Path) -> None:
    done = run(desk, "dump", "run.excise")
    assert (done.returncode, done.stderr) == (0, "")
    words = [line.split()[0] for line in done.stdout.splitlines()]
    assert words == ["header", "process", "thread", *["frame"] * 5, *["stack"] * 4, "batch", *["4242/4242"] * 4,
                     "totals", "4242/4242", "host", "end"]
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("command", ["report", "folded", "flame"])
def test_a_recording_that_was_cut_off_is_read_as_far_as_it_goes_and_says_so(desk: Path, command: str) -> None:
    done = run(desk, command, "cut.excise")
    assert done.returncode == 0 and done.stdout
    assert "cut.excise is cut off" in done.stderr


@pytest.mark.parametrize("command", ["report", "flame", "folded", "dump"])
@pytest.mark.parametrize("name", ["missing.excise", "noise.excise", "empty.excise", "."])
def test_what_is_no_recording_ends_in_one_sentence_and_code_2(desk: Path, command: str, name: str) -> None:
    done = run(desk, command, name)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("excise: ") and done.stderr.count("\n") == 1 and name in done.stderr


@pytest.mark.parametrize("words", [
    ("report", "run.excise", "--json", "-", "--folded", "-"),
    ("report", "run.excise", "--json", "/nonexistent/a.json"),
    ("report", "run.excise", "--stages", "missing.toml"),
    ("report", "run.excise", "--top", "-1"),
    ("folded", "run.excise", "--mode", "some"),
    ("flame",), ("nonsense",),
])
def test_wrong_usage_ends_with_code_2_and_no_traceback(desk: Path, words: tuple[str, ...]) -> None:
    done = run(desk, *words)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr and "Traceback" not in done.stderr


def test_rules_of_a_project_speak_for_its_code(desk: Path) -> None:
    (desk / "own.toml").write_text(
        '[[rule]]\nid = "own.app"\nstage = "postprocess"\npython = ["/srv/app.py:name*"]\nwhy = "ours"\n'
        'level = "specific"\nexample = "/srv/app.py:name"\n')
    (desk / "own.toml").chmod(0o644)
    done = run(desk, "report", "run.excise", "--stages", "own.toml", "--json", "-")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["stages"]["postprocess"]["lock"] == SECOND


def test_a_reader_that_goes_away_is_no_error(desk: Path) -> None:
    line = f"{sys.executable} -P -m excise dump run.excise | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], cwd=desk, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.startswith("header") and "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["report", "flame", "folded", "dump"])
def test_help_has_an_example_that_can_be_copied(desk: Path, command: str) -> None:
    done = run(desk, command, "--help")
    assert done.returncode == 0
    assert f"\n  excise {command} run.excise" in done.stdout
    assert run(desk, command, "-h").stdout == done.stdout


def test_version_and_the_list_of_commands_are_told(desk: Path) -> None:
    assert run(desk, "--version").stdout == f"excise, version {excise.__version__}\n"
    assert all(f"\n  {command} " in run(desk, "--help").stdout for command in ("report", "flame", "folded", "dump"))


@pytest.mark.parametrize("command", ["attach", "doctor"])
def test_help_of_what_needs_the_host_has_an_example_too(command: str) -> None:
    done = subprocess.run([SCRIPT, command, "--help"], capture_output=True, text=True, check=True, timeout=120)
    assert f"\n  sudo excise {command}" in done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion_is_a_script(shell: str) -> None:
    env = {**os.environ, "_EXCISE_COMPLETE": f"{shell}_source"}
    done = subprocess.run([SCRIPT], env=env, capture_output=True, text=True, check=True, timeout=120)
    assert "_EXCISE_COMPLETE=" in done.stdout and "excise" in done.stdout


def test_completion_knows_the_commands() -> None:
    env = {**os.environ, "_EXCISE_COMPLETE": "bash_complete", "COMP_WORDS": "excise re", "COMP_CWORD": "1"}
    done = subprocess.run([SCRIPT], env=env, capture_output=True, text=True, check=True, timeout=120)
    assert "plain,report" in done.stdout.split()


def test_the_script_is_installed_beside_its_interpreter() -> None:
    assert shutil.which(str(SCRIPT)) is not None
