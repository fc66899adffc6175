"""A small HTTP server that is full of secrets, and a client that sends it more: python secret_server.py ARGUMENT.

The environment names them all: SECRETS is JSON, name -> secret. It opens and maps files, resolves names, and holds
prompts, while it is busy enough to be seen.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SECRETS = json.loads(os.environ["SECRETS"])
PROMPTS = [f"You are a helpful assistant. {SECRETS['prompt']} {n}" for n in range(100)]


def generate_answer(prompt: str, headers: dict[str, str]) -> str:
    local_variable = SECRETS["local"]
    api_key = headers["authorization"].removeprefix("Bearer ")
    total = 0
    for n in range(20_000):
        total += hash((local_variable, api_key, prompt, n)) & 7
    return f"{prompt} {total} {SECRETS['answer']}"


class Complete(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        answer = generate_answer(body + self.path, {k.lower(): v for k, v in self.headers.items()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *words: object) -> None:
        print(self.path, file=sys.stderr)


def ask_for_ever(port: int) -> None:
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request(
            "POST", f"/v1/{SECRETS['path']}?user={SECRETS['query']}", json.dumps({"input": SECRETS["body"]}),
            {"Authorization": "Bearer " + SECRETS["header"], "Cookie": "session=" + SECRETS["cookie"]})
        connection.getresponse().read()
        connection.close()


def read_files_for_ever(folder: str) -> None:
    path = Path(folder, SECRETS["file name"])
    while True:
        path.write_text(SECRETS["file content"])
        path.read_text()
        (Path(folder) / SECRETS["missing file"]).exists()
        time.sleep(0.001)


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Complete)
    threading.Thread(target=server.serve_forever, name=SECRETS["thread"], daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        threading.Thread(target=read_files_for_ever, args=(folder,), daemon=True).start()
        print("ready", flush=True)
        ask_for_ever(server.server_address[1])


main()
