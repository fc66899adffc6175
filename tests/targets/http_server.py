"""A server and its client in one: `python http_server.py`.

Serves on a port of its own; another process of it asks without pause. Says {"pid": ...}, and after a line on
standard input stops asking and says {"answered": N, "failed": N}.
"""

import http.client
import http.server
import json
import os
import sys
import threading


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        body = json.dumps({"sum": sum(range(20_000))}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def ask(port, stop, counts):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    while not stop.is_set():
        try:
            connection.request("GET", "/")
            good = json.loads(connection.getresponse().read()) == {"sum": 199990000}
        except (OSError, http.client.HTTPException, ValueError):
            good = False
            connection.close()
        counts["answered" if good else "failed"] += 1


def ask_in_child(port):
    """Asks until standard input says so, then tells."""
    stop, counts = threading.Event(), {"answered": 0, "failed": 0}
    asker = threading.Thread(target=ask, args=(port, stop, counts))
    asker.start()
    sys.stdin.readline()
    stop.set()
    asker.join()
    print(json.dumps(counts), flush=True)


if __name__ == "__main__":
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    if os.fork() == 0:
        server.socket.close()
        ask_in_child(server.server_address[1])
        os._exit(0)
    print(json.dumps({"pid": os.getpid()}), flush=True)
    threading.Thread(target=lambda: (os.wait(), os._exit(0)), daemon=True).start()
    server.serve_forever()
