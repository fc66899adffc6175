"""Reports out of the agent's history and out of files of summaries, as a user asks for them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import excise
from excise.cli import cli

for folder in ("history", "summary"):
    path = str(Path(__file__).parents[1] / folder)
    if path not in sys.path:
        sys.path.append(path)

from past import SECOND, TRITON, VLLM, at, keep  # noqa: E402

from excise.summary import SummaryWriter  # noqa: E402
from excise.workload import Workload  # noqa: E402

SOURCE = str(Path(excise.__file__).parents[1])
USAGE, PERMISSION, TARGET = 2, 3, 4
NOBODY, WINDOWS = 65534, 150
VIEWS = ("report", "flame", "folded")


def run(*words: str, **environment: str) -> Result:
    return CliRunner().invoke(cli, [*words], env=environment, prog_name="excise")


def start(*words: str, code: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *words] if code else [sys.executable, "-m", "excise", *words]
    env = {**os.environ, "PYTHONPATH": SOURCE, **options.pop("env", {})}
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=120, check=False, **options)


@pytest.fixture(scope="module")
def spool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two workloads, watched for the last fifteen minutes, and to come for the next ten: these tests take their time.
    Nobody writes to it."""
    folder = tmp_path_factory.mktemp("history") / "spool"
    now = time.time_ns() // (10 * SECOND) * 10 * SECOND
    keep(folder, now - 900 * SECOND, WINDOWS, (VLLM, TRITON))
    return folder


@pytest.fixture
def summaries(tmp_path: Path) -> Path:
    path = tmp_path / "run.summaries"
    with SummaryWriter(path) as writer:
        for index in range(4):
            writer.write(at(1_800_000_000 * SECOND + index * 10 * SECOND, index))
    return path


def test_the_last_minutes_of_a_workload(spool: Path) -> None:
    done = run("report", "--history", str(spool), "--workload", "vllm", "--last", "5m", "--json", "-")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["schema"] == "excise.report/1"
    assert found["history"]["workload"] == {"name": "vllm", "kind": "rule"}
    assert 29 <= found["history"]["windows"] <= 31 and found["history"]["holes"] == []
    assert found["window"]["duration_ns"] == pytest.approx(found["history"]["watched_ns"], rel=1e-4)


def test_ten_minutes_are_shown_where_no_range_is_asked_for(spool: Path) -> None:
    found = json.loads(run("report", "--history", str(spool), "-w", "vllm", "--json", "-").stdout)
    assert 59 <= found["history"]["windows"] <= 61


def test_the_table_says_what_was_watched(spool: Path) -> None:
    done = run("report", "--history", str(spool), "--workload", "triton", "--last", "1h")
    assert done.exit_code == 0, done.output
    assert "triton.service (unit), Python 3.11.7, 1 process, at most 48 threads (41 carriers)" in done.stdout
    assert re.search(r"watched 9\d\d s of 3,[56]\d\d s, in 9\d windows", " ".join(done.stdout.split()))
    assert "before its history begins" in " ".join(done.stdout.split())
    assert "of it in lighter stacks" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_flame_and_folded_read_the_history_too(spool: Path, tmp_path: Path) -> None:
    page = tmp_path / "flame.html"
    assert run("flame", "--history", str(spool), "-w", "vllm", "--last", "1m", "-o", str(page)).exit_code == 0
    assert "<title>Excise: vllm</title>" in page.read_text() and "kernel_1" in page.read_text()
    lines = run("folded", "--history", str(spool), "-w", "vllm", "--last", "1m", "--mode", "cpu").stdout.splitlines()
    assert lines and all(line.startswith(("uvicorn;", "lib")) for line in lines)
    assert not any("[lock]" in line for line in lines)


@pytest.mark.parametrize("view", VIEWS)
def test_a_file_of_summaries_is_a_source_like_a_recording(view: str, summaries: Path) -> None:
    done = run(view, str(summaries))
    assert done.exit_code == 0, done.output
    assert "kernel_" in done.stdout


def test_every_output_of_a_file_of_summaries(summaries: Path, tmp_path: Path) -> None:
    done = run("report", str(summaries), "-q", *(word for name in ("json", "folded", "flame", "speedscope")
                                                 for word in (f"--{name}", str(tmp_path / name))))
    assert (done.exit_code, done.stdout) == (0, "")
    assert json.loads((tmp_path / "json").read_text())["history"]["workload"] is None
    assert json.loads((tmp_path / "speedscope").read_text())["profiles"]


def test_summaries_that_are_cut_off_are_read_as_far_as_they_go(summaries: Path) -> None:
    whole = summaries.read_bytes()
    summaries.write_bytes(whole[:len(whole) * 3 // 4])
    done = run("report", str(summaries), "--json", "-")
    assert done.exit_code == 0 and "is cut off" in done.stderr
    assert 0 < json.loads(done.stdout)["history"]["windows"] < 4


@pytest.mark.parametrize("content", [b"excise-summaries 1\n", b"excise-summaries 1\n" + b"\xff" * 99,
                                     b"excise-summaries 99\n"])
def test_what_is_no_good_file_of_summaries_is_called_so(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "run.summaries"
    path.write_bytes(content)
    done = run("report", str(path))
    assert (done.exit_code, done.stdout) == (USAGE, "")
    assert done.stderr.startswith("excise: ") and str(path) in done.stderr


# -- what cannot work


@pytest.mark.parametrize("view", VIEWS)
def test_no_history_says_how_to_get_one(view: str, tmp_path: Path) -> None:
    done = run(view, EXCISE_HISTORY=str(tmp_path / "none"))
    assert done.exit_code == USAGE
    assert f"no history in {tmp_path / 'none'}" in done.stderr and "systemctl status excise" in done.stderr


@pytest.mark.parametrize("view", [*VIEWS, "history"])
def test_a_history_of_somebody_else_asks_for_sudo(view: str, tmp_path: Path) -> None:
    """A folder that this user may not enter, as the agent's is."""
    private = tmp_path / "private"
    (private / "spool").mkdir(parents=True)
    private.chmod(0)
    code = ("import os\nfrom excise.cli import main\n"
            f"if os.geteuid() == 0:\n    os.setgroups([])\n    os.setresuid(*[{NOBODY}] * 3)\nmain()")
    done = start(view, "--history", str(private / "spool"), code=code)
    assert done.returncode == PERMISSION, done.stderr
    assert "run it with sudo" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(("words", "code", "said"), [
    ([], USAGE, "name one by --workload, of triton.service, vllm"),
    (["-w", "nginx"], TARGET, "no workload 'nginx'"),
    (["-w", "vllm", "--until", "3h ago"], TARGET, "its history goes from"),
    (["-w", "vllm", "--last", "soon"], USAGE, "'soon' is no length of time"),
    (["-w", "vllm", "--since", "soon"], USAGE, "'soon' is no time"),
    (["-w", "vllm", "--last", "5m", "--since", "10:00"], USAGE, "give one of them"),
])
def test_what_is_asked_for_must_be_there(words: list[str], code: int, said: str, spool: Path) -> None:
    done = run("report", "--history", str(spool), *words)
    assert (done.exit_code, done.stdout) == (code, "")
    assert done.stderr.startswith("excise: ") and said in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("option", ["--workload", "--last", "--since", "--until"])
def test_a_file_has_no_range(option: str, summaries: Path) -> None:
    done = run("folded", str(summaries), option, "10m")
    assert done.exit_code == USAGE and option in done.stderr


@pytest.mark.parametrize("view", VIEWS)
def test_rules_are_not_for_summaries(view: str, spool: Path, summaries: Path) -> None:
    for words in ([str(summaries)], ["--history", str(spool), "-w", "vllm"]):
        done = run(view, *words, "--stages", "mine.toml")
        assert done.exit_code == USAGE and "summaries have their stages already" in done.stderr


# -- the list


def test_the_list_has_workloads_windows_and_times(spool: Path) -> None:
    done = run("history", "--history", str(spool))
    assert done.exit_code == 0, done.output
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[1][:3] == ["triton.service", "(unit)", "150"] and lines[2][:2] == ["vllm", "150"]
    found = json.loads(run("history", "--json", EXCISE_HISTORY=str(spool)).stdout)
    assert found["schema"] == "excise.history/1" and found["bytes"] > 10_000
    assert [(w["name"], w["kind"], w["windows"]) for w in found["workloads"]] == [
        ("triton.service", "unit", WINDOWS), ("vllm", "rule", WINDOWS)]
    assert all(w["last_wall_ns"] - w["first_wall_ns"] == 10 * WINDOWS * SECOND for w in found["workloads"])


def test_lost_windows_are_in_the_list(tmp_path: Path) -> None:
    keep(tmp_path, 1_800_000_000 * SECOND, 9, lost={3: "disk_full", 4: "disk_full"})
    assert "lost: 2 windows (the disk was full)" in run("history", "--history", str(tmp_path)).stdout
    found = json.loads(run("history", "--history", str(tmp_path), "--json").stdout)
    assert found["lost_windows"] == {"disk_full": 2}


# -- how it starts


@pytest.mark.parametrize("words", [
    ["report", "-w", "vllm", "--flame", "{out}", "--speedscope", "{out}.2"], ["folded", "-w", "vllm"], ["history"],
], ids=lambda words: str(words[0]))
def test_a_history_is_shown_without_compiling_anything(words: list[str], spool: Path, tmp_path: Path) -> None:
    """numba takes a second to import, and its cache a folder that may be missing."""
    code = ("import sys\nfrom excise.cli import cli\n"
            "cli(standalone_mode=False)\n"
            "assert not {'numba', 'llvmlite'} & sys.modules.keys(), 'numba was imported'")
    words = [word.format(out=tmp_path / "out") for word in words]
    done = start(*words, code=code, env={"EXCISE_HISTORY": str(spool)})
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("view", [*VIEWS, "history"])
def test_help_has_examples_of_the_history(view: str) -> None:
    done = run(view, "--help")
    assert done.exit_code == 0 and f"\n  sudo excise {view}" in done.stdout
    assert all(line.isascii() for line in done.stdout.splitlines())


def complete(words: str, position: int, **environment: str) -> list[str]:
    env = {"_EXCISE_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(position), **environment}
    code = "from excise.cli import cli; cli(prog_name='excise')"
    done = start(code=code, env=env)
    assert not done.stderr
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


def test_names_of_workloads_are_completed_from_the_history(spool: Path, tmp_path: Path) -> None:
    assert complete("excise report --workload ", 3, EXCISE_HISTORY=str(spool)) == ["triton.service", "vllm"]
    assert complete(f"excise flame --history {spool} -w v", 5) == ["vllm"]
    assert complete("excise folded -w ", 3, EXCISE_HISTORY=str(tmp_path / "none")) == []


def test_names_that_processes_gave_themselves_do_no_harm(tmp_path: Path) -> None:
    names = ("$(reboot)", "a\nplain,b", "\x1b[2J", "good")
    keep(tmp_path, 1_800_000_000 * SECOND, 1, [Workload(name, "process") for name in names])
    assert complete("excise report -w ", 3, EXCISE_HISTORY=str(tmp_path)) == ["good"]
    for done in (run("report", "--history", str(tmp_path)), run("history", "--history", str(tmp_path)),
                 run("report", "--history", str(tmp_path), "-w", "\x1b[2J", "--since", "2027-01-01")):
        assert "\x1b" not in done.output and "\nplain" not in done.output
