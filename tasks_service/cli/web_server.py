"""gunicorn around the application: built after the fork, logged through structlog, bound to its supervisor.

What lives here: gunicorn's settings and hooks, and the access log. What does not: the application (app.py). No line
holds a query string or the signed part of a link. Called by cli/processes.py.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Callable, MutableMapping
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog
from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger

from tasks_service import metrics
from tasks_service.config import Settings, WebSettings
from tasks_service.errors import ConfigurationError
from tasks_service.loops import Loops
from tasks_service.presence import Presence
from tasks_service.storage.links import redact_path
from tasks_service.supervisor import watch_parent

log = structlog.stdlib.get_logger(__name__)

_QUIET_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})


def serve(settings: Settings, *, supervised: bool) -> None:
    """Serve until a signal; does not return but by SystemExit.

    Raises:
        ConfigurationError: the address cannot be listened on.
    """
    _require_free(settings.web)
    _Server(settings, supervised=supervised).run()


class AccessLog(Logger):
    """gunicorn's lines through the standard library's root logger, its access lines as events."""

    def setup(self, cfg: Any) -> None:  # noqa: ANN401 -- gunicorn is untyped
        """Leave handlers alone: telemetry.configure has set the root's."""
        del cfg
        self.error_log = logging.getLogger("gunicorn.error")
        self.access_log = logging.getLogger("gunicorn.access")
        self.error_log.propagate = True
        self.error_log.setLevel(max(logging.WARNING, logging.getLogger().level))

    def access(self, resp: Any, req: Any, environ: MutableMapping[str, Any], request_time: timedelta) -> None:  # noqa: ANN401
        """Log one request; the path without its query, and without what would open a file."""
        del req
        path = redact_path(str(environ.get("PATH_INFO", "")))
        level = logging.DEBUG if path in _QUIET_PATHS else logging.INFO
        log.log(
            level,
            "web.request",
            method=environ.get("REQUEST_METHOD"),
            path=path,
            status=int(str(resp.status).split(" ", 1)[0]),
            # A file that the kernel sends is not counted as sent.
            bytes=resp.sent or resp.response_length or 0,
            milliseconds=round(request_time.total_seconds() * 1000, 1),
            remote=environ.get("REMOTE_ADDR"),
        )

    def reopen_files(self) -> None:
        """Do nothing: there are no files of its own."""


class _Server(BaseApplication):
    """The master process; `load` runs in each worker, after the fork."""

    def __init__(self, settings: Settings, *, supervised: bool) -> None:
        self._settings = settings
        self._supervised = supervised
        self._presence: Presence | None = None
        super().__init__()

    def load_config(self) -> None:
        web = self._settings.web
        host = f"[{web.host}]" if ":" in web.host else web.host
        shared_memory = Path("/dev/shm")  # noqa: S108 -- for gunicorn's heartbeat files, which a slow disk would delay
        wanted: dict[str, Any] = {
            "bind": [f"{host}:{web.port}"],
            "workers": web.workers,
            "worker_class": "gthread",
            "threads": web.threads,
            "graceful_timeout": web.graceful_timeout_seconds,
            "timeout": 120,
            "keepalive": 15,
            "preload_app": False,
            "logger_class": AccessLog,
            "control_socket_disable": True,
            "worker_tmp_dir": str(shared_memory) if os.access(shared_memory, os.W_OK) else None,
            "when_ready": _listening,
            "post_fork": self._forked,
            "worker_exit": self._ending,
        }
        for name, value in wanted.items():
            if name in self.cfg.settings:  # gunicorn's older lines lack some
                self.cfg.set(name, value)

    def load(self) -> Callable[..., Any]:
        from tasks_service.app import build, create_app

        metrics.begin(self._settings.service.state_directory, "web")
        services = build(self._settings)
        loops = Loops()
        self._presence = Presence(services.database, "web")
        self._presence.begin(loops)
        return create_app(services, loops=loops.state)

    def _ending(self, server: Any, worker: Any) -> None:  # noqa: ANN401 -- gunicorn is untyped
        del server, worker
        if self._presence is not None:
            self._presence.end()

    def _forked(self, server: Any, worker: Any) -> None:  # noqa: ANN401 -- gunicorn is untyped
        del worker
        if self._supervised:
            master = int(server.pid)
            watch_parent(lambda: _end(master))


def _end(master: int) -> None:
    """End the server by its master; where the master died before us, gunicorn's worker ends by itself."""
    if os.getppid() == master:
        with suppress(ProcessLookupError):
            os.kill(master, signal.SIGTERM)


def _listening(server: Any) -> None:  # noqa: ANN401 -- gunicorn is untyped
    for listener in server.LISTENERS:
        host, port = listener.sock.getsockname()[:2]
        log.info("web.listening", url=f"http://{f'[{host}]' if ':' in host else host}:{port}", pid=os.getpid())


def _require_free(web: WebSettings) -> None:
    """Look whether the address can be listened on: gunicorn would say so in five lines and a traceback."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(web.host, web.port, type=socket.SOCK_STREAM)[0]
        with closing(socket.socket(family, kind, protocol)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise ConfigurationError(
            f"Cannot listen on {web.host} port {web.port} ({error.strerror}); set web.host and web.port to an "
            "address of this machine and a port that is free."
        ) from error
