"""A stand-in for W&B's server: as much of it as a run needs, on a port of this machine."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server:
    """Keeps what runs stream: ``history[run]`` has the rows, in the order of their lines."""

    def __init__(self):
        self.history: dict[str, dict[int, dict]] = {}
        self.runs: dict[str, dict] = {}
        self.asked: list[str] = []
        self.knows_key = True
        self.answers = threading.Event()
        self.answers.set()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments):
                pass

            def _answer(self, value):
                server.answers.wait()
                data = json.dumps(value).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_GET(self):
                self._answer({})

            def do_PUT(self):
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self._answer({})

            def do_POST(self):
                data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.headers.get("Content-Encoding") == "gzip":
                    data = gzip.decompress(data)
                asked = json.loads(data)
                if self.path == "/graphql":
                    answer = server.answer(asked)
                    self._answer({"data": answer} if answer else {"errors": [{"message": "not here"}]})
                else:
                    server.stream(self.path.split("/")[-2], asked)
                    self._answer({})

        class Listening(ThreadingHTTPServer):
            daemon_threads = True

            def get_request(self):
                connection, address = super().get_request()
                server.connections.append(connection)
                return connection, address

        self.connections: list[socket.socket] = []
        self._server = Listening(("127.0.0.1", 0), Handler)
        self._server.handle_error = lambda *arguments: None  # a client that went away
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        """Be gone, also for who is connected."""
        self.answers.set()
        self._server.shutdown()
        self._server.server_close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def stream(self, run, asked):
        for name, chunk in asked.get("files", {}).items():
            if name == "wandb-history.jsonl":
                for place, line in enumerate(chunk["content"], chunk["offset"]):
                    self.history.setdefault(run, {})[place] = json.loads(line)

    def answer(self, asked):
        found = re.match(r"\s*(?:query|mutation)\s+(\w+)", asked["query"])
        name, given = found.group(1) if found else "", asked.get("variables") or {}
        self.asked.append(name)
        if name == "RunResumeStatus":
            run = self.runs.get(given["name"])
            lines = self.history.get(given["name"], {})
            tail = [json.dumps(lines[max(lines)])] if lines else []
            bucket = run and {
                **run,
                "summaryMetrics": tail[0] if tail else "{}",
                "logLineCount": 0,
                "historyLineCount": len(lines),
                "eventsLineCount": 0,
                "historyTail": json.dumps(tail),
                "eventsTail": "[]",
                "config": "{}",
                "tags": [],
                "notes": "",
                "wandbConfig": '{"t": 1}',
            }
            return {"model": {"id": "p", "name": "automl", "entity": ENTITY, "bucket": bucket}}
        if name == "UpsertBucket":
            run = self.runs.setdefault(given["name"], {"id": given["name"], "name": given["name"], "displayName": None})
            run["displayName"] = given["displayName"] or run["displayName"]
            project = {"id": "p", "name": "automl", "entity": ENTITY}
            bucket = {**run, "description": "", "config": "{}", "sweepName": None, "project": project}
            bucket["historyLineCount"] = len(self.history.get(given["name"], {}))
            return {"upsertBucket": {"bucket": bucket, "inserted": True}}
        if name == "CreateRunFiles":
            files = [{"name": file, "uploadUrl": f"{self.address}/upload"} for file in given["files"]]
            return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": files}}
        if name in ("Viewer", "GetViewer") and self.knows_key:
            viewer = {"id": "v", "entity": "us", "username": "us", "email": "", "flags": "{}", "teams": {"edges": []}}
            return {"viewer": {**viewer, "name": "us", "admin": False, "deletedAt": None, "apiKeys": {"edges": []}}}
        return None


ENTITY = {"id": "e", "name": "us"}
