"""A small HTTP server of each scheduler and worker process, for whoever watches it: /healthz, and what is registered.

What lives here: the server, and the answer of /healthz from the loops of the process. What does not: what the loops do
(loops.py), the web process (its /healthz is the API's own), and the content of other paths, which their owners
`register`. It tells no secret, takes no input but the path and a token, and listens on the loopback
unless told otherwise.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import structlog

from tasks_service.config import VitalsSettings
from tasks_service.errors import ConfigurationError
from tasks_service.loops import Loops

log = structlog.stdlib.get_logger(__name__)

_PATIENCE_SECONDS = 10.0


@dataclass(frozen=True)
class Answer:
    """What a path answers."""

    status: int
    content_type: str
    body: bytes


Handler = Callable[[str | None], Answer]
"""What answers a path, given what the request says in `Authorization`."""


class VitalsServer:
    """Answers GET on the paths that were registered, from threads of its own. With port 0 it does nothing."""

    def __init__(self, settings: VitalsSettings, loops: Loops) -> None:
        """Take where to listen, and the loops that /healthz tells about."""
        self._settings = settings
        self._handlers: dict[str, Handler] = {"/healthz": lambda _: health(loops)}
        self._server: ThreadingHTTPServer | None = None

    def register(self, path: str, handler: Handler) -> None:
        """Answer a path with what the handler returns, which is called from any thread."""
        self._handlers[path] = handler

    @property
    def port(self) -> int | None:
        """The port it listens on; None where it does not."""
        return self._server.server_port if self._server is not None else None

    def start(self) -> None:
        """Listen, unless the port is 0.

        Raises:
            ConfigurationError: the address cannot be listened on.
        """
        host, port = self._settings.host, self._settings.port
        if port == 0:
            return
        handlers = self._handlers

        class Request(_Request):
            def handler(self) -> Handler | None:
                return handlers.get(urlsplit(self.path).path)

        try:
            self._server = ThreadingHTTPServer((host, port), Request)
        except OSError as error:
            raise ConfigurationError(
                f"Cannot listen on {host} port {port} ({error.strerror}); set vitals.host and vitals.port to an "
                "address of this machine and a port that is free. Each process on a host needs a port of its own."
            ) from error
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, name="vitals", daemon=True).start()
        log.info("vitals.listening", host=host, port=port)

    def stop(self) -> None:
        """Stop listening."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()


def health(loops: Loops) -> Answer:
    """Return whether the process is alive: 200, or 503 where a loop has not ticked for three intervals."""
    state = loops.state()
    checks = [
        {"name": name, "ok": alive, "detail": "ticking" if alive else "has not ticked for three intervals"}
        for name, alive in state.items()
    ]
    well = all(state.values())
    document = {"status": "ok" if well else "failing", "checks": checks}
    return Answer(200 if well else 503, "application/json", json.dumps(document).encode())


class _Request(BaseHTTPRequestHandler):
    """One request: a path that is known is answered, any other is 404."""

    timeout = _PATIENCE_SECONDS
    server_version, sys_version = "tasks-service", ""

    def handler(self) -> Handler | None:
        raise NotImplementedError

    def do_GET(self) -> None:
        handler = self.handler()
        try:
            answer = (
                handler(self.headers.get("Authorization"))
                if handler is not None
                else Answer(404, "text/plain", b"There is nothing here.\n")
            )
        except Exception:
            log.exception("vitals.failed", path=self.path)
            answer = Answer(500, "text/plain", b"The service's log has the details.\n")
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the library's name
        """Say nothing: a watcher asks every few seconds."""
