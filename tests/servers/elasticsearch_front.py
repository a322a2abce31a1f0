"""A front of a real Elasticsearch that does what networks and clusters in trouble do: the faults are given by the test.

Every request is passed on; a fault looks at the request and the real answer and may hand back another one, cut the
connection, or cut the answer short. Listens on loopback, one thread a connection.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


@dataclass
class Exchange:
    """One request and its real answer; a fault changes the answer in place.

    `cut` bytes of the body are sent and then the connection is closed; 0 closes it without an answer.
    """

    method: str
    path: str
    request: dict[str, Any]
    status: int
    body: bytes
    cut: int | None = None

    @property
    def answer(self) -> Any:
        """The answer's body, decoded."""
        return json.loads(self.body)

    def change(self, **members: Any) -> None:
        """Replace top-level members of the answer."""
        self.body = json.dumps({**self.answer, **members}).encode()

    def fail(self, status: int, kind: str) -> None:
        """Answer with an error of that type, as the server words it."""
        cause = {"type": kind, "reason": "front-of-the-test says no"}
        self.status = status
        self.body = json.dumps({"error": {"root_cause": [cause], **cause}, "status": status}).encode()

    @property
    def is_page(self) -> bool:
        """Whether this is a page of documents (not a count)."""
        return "/_search" in self.path and self.request.get("size", 0) > 0


Fault = Callable[[Exchange], None]


@dataclass
class Front:
    """Where the front listens, what it does, and what it saw."""

    url: str = ""
    fault: Fault = lambda _exchange: None
    seen: list[Exchange] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextlib.contextmanager
def fronted(url: str) -> Generator[Front]:
    """Run a front of the server at that URL."""
    front = Front()
    target = urlsplit(url)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            sent = self.rfile.read(length)
            connection = http.client.HTTPConnection(str(target.hostname), target.port, timeout=60)
            with contextlib.closing(connection):
                headers = {"content-type": self.headers.get("content-type", "application/json")}
                connection.request(self.command, self.path, body=sent, headers=headers)
                real = connection.getresponse()
                body = real.read()
            exchange = Exchange(self.command, self.path, _decoded(sent), real.status, body)
            with front.lock:
                front.seen.append(exchange)
                front.fault(exchange)
            self._answer(exchange)

        do_GET = do_POST = do_DELETE = do_PUT = do_HEAD = handle_any  # noqa: N815 -- the standard library's names

        def _answer(self, exchange: Exchange) -> None:
            if exchange.cut == 0:
                self.close_connection = True
                return
            self.send_response(exchange.status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(exchange.body)))
            self.end_headers()
            self.wfile.write(exchange.body if exchange.cut is None else exchange.body[: exchange.cut])
            if exchange.cut is not None:
                self.close_connection = True

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    front.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield front
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        return dict(json.loads(body))
    except ValueError:
        return {}
