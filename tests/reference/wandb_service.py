"""As much of wandb's service as its client asks for: it takes one run, says where it stands, and takes it up again."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Service(ThreadingHTTPServer):
    """Keeps what it was sent; rows of the history stand at the offsets that the client gives."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.keys: set[str] = set()
        self.begun: list[dict[str, Any]] = []
        """The variables of every request that begins a run, or takes it up again."""
        self.history: dict[int, dict[str, Any]] = {}
        self.exit_codes: list[int] = []

    def answer(self, name: str, variables: dict[str, Any]) -> dict[str, Any]:
        """Return the data of a GraphQL answer."""
        project = {"id": "p", "name": variables.get("project"), "entity": {"id": "e", "name": "me"}}
        bucket = {"id": "b", "name": variables.get("name"), "sweepName": None, "config": "{}", "description": None}
        if name == "RunResumeStatus" and self.begun:
            rows = [json.dumps(self.history[offset]) for offset in sorted(self.history)]
            bucket |= {
                "historyLineCount": len(rows), "historyTail": json.dumps(rows[-1:]), "logLineCount": 0,
                "eventsLineCount": 0, "eventsTail": "[]", "summaryMetrics": "{}", "tags": [],
                "wandbConfig": '{"t": 1}',
            }  # fmt: skip
            return {"model": {**project, "bucket": bucket}}
        if name == "UpsertBucket":
            self.begun.append(variables)
            bucket |= {"displayName": variables.get("displayName"), "historyLineCount": 0, "project": project}
            return {"upsertBucket": {"bucket": bucket, "inserted": True}}
        if name == "CreateRunFiles":
            files = [{"name": each, "uploadUrl": f"{self.address}/{each}"} for each in variables["files"]]
            return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}
        return {}

    def stream(self, sent: dict[str, Any]) -> None:
        """Keep what a request of the file stream brings."""
        lines = sent.get("files", {}).get("wandb-history.jsonl", {"offset": 0, "content": []})
        for offset, line in enumerate(lines["content"], lines["offset"]):
            self.history[offset] = json.loads(line)
        if "exitcode" in sent:
            self.exit_codes.append(sent["exitcode"])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Service

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answer: dict[str, Any] = {}
        if self.path.endswith(("/graphql", "/file_stream")):
            _, _, key = base64.b64decode(self.headers["Authorization"].split()[1]).decode().partition(":")
            self.server.keys.add(key)
            asked = json.loads(body)
            if self.path.endswith("/graphql"):
                name = re.search(r"(?:query|mutation)\s+(\w+)", asked["query"])
                answer = {"data": self.server.answer(name[1] if name else "", asked.get("variables") or {})}
            else:
                self.server.stream(asked)
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_PUT = do_POST

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing."""


@contextmanager
def running() -> Iterator[Service]:
    """Run the service in a thread."""
    service = Service()
    thread = threading.Thread(target=service.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield service
    finally:
        service.shutdown()
        thread.join()
        service.server_close()
