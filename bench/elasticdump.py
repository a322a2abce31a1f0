"""The peer most people know: elasticdump, as its package comes, at its defaults and with pages as large as they may be.

It is fetched once by npm into the cache of the test servers. It asks `GET /` first, which the distribution made for
tests does not answer, so that it is sent through a front here that answers that one question and passes on the rest.
Called by bench/export.py.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.servers.parts import cached, run

PACKAGE = "elasticdump@6.125.1"
ROOT = json.dumps({"version": {"number": "8.19.0"}, "tagline": "You Know, for Search"}).encode()


def program() -> Path:
    """Return elasticdump's own script. Raises UnavailableError where node, npm or the registry is not there."""

    def fetch(directory: Path) -> Path:
        made = directory / "made"
        made.mkdir()
        flags = ["--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(made)]
        run(["npm", "install", *flags, PACKAGE], what="elasticdump")
        return made

    return cached(PACKAGE.replace("@", "-"), fetch) / "node_modules" / "elasticdump" / "bin" / "elasticdump"


def command(url: str, index: str, query: dict[str, Any], output: Path, *options: str) -> list[str]:
    """Return the command that dumps the documents of a query as JSON lines."""
    asked = json.dumps({"query": query})
    return [
        "node", str(program()), f"--input={url}/{index}", f"--output={output}", f"--searchBody={asked}",
        "--type=data", "--sourceOnly", "--quiet", *options,
    ]  # fmt: skip


@contextlib.contextmanager
def answering_root(url: str) -> Generator[str]:
    """Run the front; yield its URL."""
    target = urlsplit(url)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            sent = self.rfile.read(int(self.headers.get("content-length") or 0))
            status, kind, body = 200, "application/json", ROOT
            if self.path.partition("?")[0] != "/":
                status, kind, body = self._real(sent)
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.send_header("x-elastic-product", "Elasticsearch")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_POST = do_DELETE = do_PUT = do_HEAD = handle_any  # noqa: N815 -- the standard library's names

        def _real(self, sent: bytes) -> tuple[int, str, bytes]:
            connection = http.client.HTTPConnection(str(target.hostname), target.port, timeout=120)
            with contextlib.closing(connection):
                headers = {"content-type": self.headers.get("content-type", "application/json")}
                connection.request(self.command, self.path, body=sent, headers=headers)
                answer = connection.getresponse()
                return answer.status, answer.getheader("content-type", "application/json"), answer.read()

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
