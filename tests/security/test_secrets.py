"""Secrets of a watched program are in nothing that Excise writes, sends or shows."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from excise_agent.cli import cli
from security.plain import forms, layers, where
from security.receivers import ForwardReceiver, HttpReceiver
from security.running_agent import DEADLINE_S, RunningAgent, until

SERVER = Path(__file__).parent / "targets" / "secret_server.py"
NAMES = ("argument", "environment", "prompt", "local", "answer", "path", "query", "body", "header", "cookie",
         "file name", "file content", "missing file", "thread", "working folder", "password")

pytestmark = pytest.mark.bpf


def planted() -> dict[str, str]:
    return {name: f"s3cr3t-{secrets.token_hex(8)}" for name in NAMES}


@pytest.fixture
def target(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, str]]]:
    words = planted()
    (folder / words["working folder"]).mkdir()
    process = subprocess.Popen(
        [sys.executable, str(SERVER), f"--token={words['argument']}", words["argument"]], stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"SECRETS": json.dumps(words), "OPENAI_API_KEY": words["environment"],
                          "TMPDIR": str(folder / words["working folder"])})
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    try:
        yield process, words
    finally:
        process.kill()
        process.wait()


def test_a_secret_is_found_however_it_is_packed() -> None:
    import base64
    import gzip
    import zlib

    words = {"one": "s3cr3t-0123456789abcdef"}
    raw = b"some words before " + words["one"].encode() + b" and after"
    for packed in (raw, gzip.compress(raw), zlib.compress(raw), base64.b64encode(raw), base64.b64encode(raw[1:]),
                   b"junk" + base64.b64encode(gzip.compress(raw)), raw.decode().encode("utf-16-le")):
        assert where(packed, words) == {"one"}
    assert where(raw.replace(b"0123", b"0124"), words) == set()
    assert all(any(form in layer for layer in layers(form)) for form in forms(words["one"]))


def test_no_secret_of_a_target_is_in_any_output(
    agent: RunningAgent, folder: Path, target: tuple[subprocess.Popen[bytes], dict[str, str]]
) -> None:
    process, words = target
    forward, clickhouse = ForwardReceiver(), HttpReceiver()
    (folder / "password").write_text(words["password"])
    os.chmod(folder / "password", 0o600)
    agent.start(f"""
[[discovery.workload]]
name = "secretive"
command = "secret_server.py"
[prometheus]
listen = "127.0.0.1:0"
[[forward]]
address = "{forward.address}"
[[clickhouse]]
url = "{clickhouse.url}"
user = "writer"
password_file = "{folder / 'password'}"
stacks = true
""")
    until(lambda: agent.windows("secretive") >= 4, "four windows")
    state = agent.status()
    outputs: dict[str, bytes] = {}

    def say(*argv: str) -> None:
        done = CliRunner().invoke(cli, argv)
        assert done.exit_code in (0, 1), done.output
        outputs[" ".join(argv)] = done.output.encode("utf-8", "surrogateescape")

    def attach(*argv: str) -> None:
        done = agent.excise("attach", "--pid", str(process.pid), "-d", "2s", "--socket", str(agent.socket), *argv)
        assert done.returncode == 0, done.stderr
        outputs["attach " + " ".join(argv)] = done.stdout + done.stderr

    url = f"http://{state['metrics']}/metrics"
    for accept in ("text/plain", "application/openmetrics-text"):
        request = urllib.request.Request(url, headers={"Accept": accept, "Accept-Encoding": "identity"})
        outputs[f"/metrics {accept}"] = urllib.request.urlopen(request, timeout=DEADLINE_S).read()
    say("status", "--socket", str(agent.socket))
    say("status", "--json", "--socket", str(agent.socket))
    files = [folder / name for name in ("asked.excise", "asked.summaries", "flame.html", "own.excise")]
    attach("--record", str(files[0]), "--summaries", str(files[1]), "--window", "1s", "--flame", str(files[2]))
    attach("--no-agent", "--record", str(files[3]), "--json", "-")
    for recording in (str(files[0]), str(files[3])):
        say("report", recording, "--top", "100", "--json", "-")
        say("report", recording, "--top", "100", "--speedscope", "-")
        say("report", recording, "--top", "100")
        say("flame", recording)
        say("folded", recording)
        say("dump", recording)
    say("dump", str(files[1]))
    say("dump", str(files[1]), "--json")
    until(lambda: len(forward.records) >= 4 and clickhouse.requests >= 4, "the sinks deliver")
    agent.stop()
    outputs["log"] = agent.log.read_bytes()
    outputs["to fluent bit"] = bytes(forward.received)
    outputs["to clickhouse"] = bytes(clickhouse.received)
    written = [path for path in (*files, *agent.state.rglob("*"), *agent.run.rglob("*")) if path.is_file()]
    for path in written:
        outputs[str(path)] = path.read_bytes()
    forward.close()
    clickhouse.close()

    seen = [layer for content in outputs.values() for layer in layers(content)]
    assert any(b"generate_answer" in layer for layer in seen)  # it was seen at work
    for name in ("to fluent bit", "to clickhouse", f"/metrics {'text/plain'}"):
        assert any(b"secretive" in layer for layer in layers(outputs[name])), name
    assert sum(str(path).startswith(str(agent.state / "spool")) for path in written) >= 2
    assert any(b"generate_answer" in layer for p in written if p.suffix == ".summaries" for layer in
               layers(p.read_bytes()))
    found = {name: leaked for name, content in outputs.items() if (leaked := where(content, words))}
    assert found == {"to clickhouse": {"password"}}  # with which we log in there
