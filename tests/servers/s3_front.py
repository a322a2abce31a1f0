"""A front before the S3 server that carries out the faults of a test (``gcs_faults``), and passes everything else on.

Operations are named ``object.head``, ``object.put``, ``object.get``, ``object.delete``, ``upload.create``,
``upload.part``, ``upload.complete``, ``upload.abort``, ``uploads.list`` and ``other``. `misreport` changes headers of
the answer. It runs in threads of the process that uses it.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import struct
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.servers.gcs_faults import Fault, Faults

UPSTREAM_SECONDS = 120.0
NOT_PASSED_ON = {"connection", "expect", "transfer-encoding", "keep-alive"}
CODES = {403: "AccessDenied", 404: "NoSuchBucket", 500: "InternalError", 503: "SlowDown"}


class Front(ThreadingHTTPServer):
    """The listening front."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.upstream = upstream
        self.faults = Faults()
        self.defects: list[str] = []
        self.endpoint = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is none of our business."""


def operation_of(method: str, target: str) -> str:
    """The name of what a request asks for."""
    parts = urlsplit(target)
    query = parse_qs(parts.query, keep_blank_values=True)
    if "/" not in parts.path.strip("/"):
        return "uploads.list" if "uploads" in query else "other"
    if "uploads" in query:
        return "upload.create"
    if "uploadId" in query:
        return {"PUT": "upload.part", "POST": "upload.complete", "DELETE": "upload.abort"}.get(method, "other")
    return f"object.{method.lower()}"


class Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    server: Front
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the base class calls it so
        """Say nothing."""

    def do_GET(self) -> None:
        """Serve any method."""
        try:
            self._serve()
        except ConnectionError:
            self.close_connection = True  # the client went away
        except Exception as error:  # noqa: BLE001 -- a defect of the front: the test that met it must fail
            self.server.defects.append(f"{self.command} {self.path}: {error!r}")
            self._reset()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

    def _serve(self) -> None:
        fault = self.server.faults.meet(operation_of(self.command, self.path), self.client_address)
        length = int(self.headers.get("Content-Length") or 0)
        if fault is not None and fault.reset_after is not None:
            self.rfile.read(min(length, fault.reset_after))
            self._reset()
            return
        body = self.rfile.read(length)
        if fault is not None and fault.status:
            self._refuse(fault)
            return
        status, headers, answer = self._upstream(body)
        if fault is not None and fault.lose_answer:
            self._reset()
            return
        self._answer(
            status,
            headers | {name.lower(): str(value) for name, value in (fault.changes if fault else {}).items()},
            answer,
        )

    def _upstream(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.server.upstream, timeout=UPSTREAM_SECONDS)
        with contextlib.closing(connection):
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in NOT_PASSED_ON:
                    connection.putheader(name, value)  # the host too: it is signed
            connection.endheaders(body)
            answer = connection.getresponse()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, headers, answer.read()

    def _refuse(self, fault: Fault) -> None:
        code = CODES.get(fault.status, "Fault")
        error = f"<Error><Code>{code}</Code><Message>{fault.message}</Message></Error>"
        text = f"<?xml version='1.0' encoding='UTF-8'?>{error}"
        self._answer(fault.status, {"Content-Type": "application/xml"}, text.encode())

    def _answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in NOT_PASSED_ON | {"content-length"}:
                self.send_header(name, value)
        said = headers.get("content-length", "0") if self.command == "HEAD" else str(len(body))
        self.send_header("Content-Length", said)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _reset(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
