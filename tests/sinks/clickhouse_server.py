"""Debian's clickhouse-server (18.16) as a child, in a folder of its own, with a password, on free ports of loopback."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

PASSWORD = "grüner".encode().hex()
SCHEMA = Path(__file__).parents[2] / "packaging" / "clickhouse"
_CONFIG = """<yandex>
<logger><level>warning</level><console>1</console></logger>
<http_port>{http}</http_port><tcp_port>{tcp}</tcp_port><listen_host>127.0.0.1</listen_host>
<path>{folder}/data/</path><tmp_path>{folder}/tmp/</tmp_path>
<user_files_path>{folder}/files/</user_files_path><format_schema_path>{folder}/formats/</format_schema_path>
<users_config>users.xml</users_config><default_profile>default</default_profile>
<default_database>default</default_database><mark_cache_size>16777216</mark_cache_size>
<timezone>America/St_Johns</timezone>
</yandex>"""
_USERS = """<yandex><profiles><default></default></profiles><quotas><default></default></quotas>
<users><default><password>{password}</password><networks><ip>127.0.0.1</ip></networks>
<profile>default</profile><quota>default</quota></default></users></yandex>"""


_UNPACKED = Path(sys.prefix) / "clickhouse"


def program(name: str) -> tuple[str, dict[str, str]]:
    """Where it is, and the environment that it needs: unpacked by `make test`, or installed."""
    libraries = ":".join(str(folder) for lib in ("lib", "usr/lib") for folder in (_UNPACKED / lib).glob("*-linux-gnu*"))
    for folder in ("usr/sbin", "usr/bin"):
        if (_UNPACKED / folder / name).exists():
            return str(_UNPACKED / folder / name), os.environ | {"LD_LIBRARY_PATH": libraries}
    found = shutil.which(name)
    assert found, f"{name} is missing: run `make test`, which unpacks it"
    return found, dict(os.environ)


class ClickHouseServer:
    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
            self.http, self._tcp = one.getsockname()[1], other.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.http}"
        self.password_file = folder / "password"
        self.password_file.write_text(PASSWORD + "\n")
        self.password_file.chmod(0o600)
        for name in ("data", "tmp", "files", "formats"):
            (folder / name).mkdir()
        (folder / "config.xml").write_text(_CONFIG.format(http=self.http, tcp=self._tcp, folder=folder))
        (folder / "users.xml").write_text(_USERS.format(password=PASSWORD))
        self._folder = folder
        self.start()

    def start(self) -> None:
        path, environment = program("clickhouse-server")
        with (self._folder / "log").open("ab") as log:
            self._child = subprocess.Popen([path, f"--config-file={self._folder}/config.xml"],
                                           stdout=log, stderr=log, cwd=self._folder, env=environment)
        deadline = time.monotonic() + 60
        while not self._answers():
            assert self._child.poll() is None and time.monotonic() < deadline, (self._folder / "log").read_text()
            time.sleep(0.02)

    def client(self, text: str) -> str:
        """As an operator does it: a file into clickhouse-client."""
        path, environment = program("clickhouse-client")
        done = subprocess.run(
            [path, "--multiquery", "--host=127.0.0.1", f"--port={self._tcp}", f"--password={PASSWORD}"],
            input=text, capture_output=True, text=True, timeout=120, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def rows(self, query: str) -> list[list[str]]:
        return [line.split("\t") for line in self.client(query).splitlines()]

    def stop(self) -> None:
        self._child.kill()  # the data is as it is after a crash
        self._child.wait(60)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/ping", timeout=60) as answer:
                return bool(answer.status == 200)
        except urllib.error.URLError:
            return False
