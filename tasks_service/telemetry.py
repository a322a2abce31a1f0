"""Logs: structlog over the standard library's logging, so that every library's lines come the same way.

What lives here: the set-up, called once by each process of cli/ before anything else, the context that is bound to
the lines of a request or a run, and a redaction that is a second wall: no caller passes a signed link or a secret to
a log call, and if one does it, or a vendor's exception quotes one, this module takes it out. What does not: events
and their names, which stand where they happen.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
from collections.abc import Callable, Generator, Mapping, MutableMapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Literal, TextIO, cast

import structlog

log = structlog.stdlib.get_logger(__name__)

REDACTED = "[redacted]"

# A key whose value is a secret whatever it looks like.
_SECRET_KEYS = frozenset(
    {"api_key", "authorization", "cookie", "password", "secret", "secret_key", "set-cookie", "signature", "token"}
)
# Each with what a text must hold for it to match: most texts of a line hold none of that, and are looked at once.
_SECRETS = (
    # What signs a link of Google Cloud Storage (V4 and V2), or says who signed it.
    (
        "signature|credential|googleaccessid",
        r"\b(X-Goog-Signature|X-Goog-Credential|X-Amz-Signature|Signature|GoogleAccessId)(=|%3D)[^&\s\"'<>]+",
        rf"\1\2{REDACTED}",
    ),
    # The opaque part of a local link is the whole right to its file.
    ("/files/", r"(/files/)[^/\s\"'?#]+", rf"\1{REDACTED}"),
    ("bearer|basic|apikey", r"\b(Bearer|Basic|ApiKey)\s+[A-Za-z0-9._~+/:=-]{8,}", rf"\1 {REDACTED}"),
    (
        "authorization",
        r"(authorization[\"']?\s*[:=]\s*[\"']?)(?!Bearer|Basic|ApiKey)[^\s\"',}]+",
        rf"\1{REDACTED}",
    ),
    # The password of a database's or a cluster's URL.
    ("://", r"(\b[a-z][a-z0-9+.-]*://[^\s:/@\"']*):[^\s@/\"']+@", rf"\1:{REDACTED}@"),
    ("passw|pwd|_key", r"\b(password|passwd|pwd|api_key|secret_key)=[^&\s\"']+", rf"\1={REDACTED}"),
    # A token of the service.
    ("tok_", r"\b(tok_[0-9a-f]{8,}):[A-Za-z0-9_-]{16,}", rf"\1:{REDACTED}"),
    ("-----begin", r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", REDACTED),
)
_PATTERNS = tuple((re.compile(pattern, re.IGNORECASE), replacement) for _, pattern, replacement in _SECRETS)
_SIGNS = re.compile("|".join(sign for sign, _, _ in _SECRETS), re.IGNORECASE)

EventDict = MutableMapping[str, Any]


def configure(
    *, log_format: Literal["console", "json"], level: str, process: str, stream: TextIO | None = None
) -> None:
    """Send every line of this process to `stream` (standard error), for people or as one JSON object each.

    Each line carries the name of the process. Whoever configured logging before is replaced; calling it again
    is harmless.
    """
    output = stream or sys.stderr
    severity = logging.getLevelNamesMapping()[level.upper()]
    shared = _shared_processors(process)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,  # a second call must reach loggers that exist already
    )
    handler = logging.StreamHandler(output)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                redact,
                *_renderers(log_format, output),
            ],
        )
    )
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(severity)
    logging.captureWarnings(capture=True)
    # One line for every page of every export says nothing; warnings of these libraries still come.
    for name in ("elastic_transport", "urllib3", "google", "apscheduler", "alembic"):
        logging.getLogger(name).setLevel(max(logging.WARNING, severity))


def log_uncaught() -> None:
    """Log what nothing catches, in any thread, rather than let the interpreter print it as it is."""

    def in_main(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, trace)
        else:
            log.critical("process.crashed", exc_info=(kind, error, trace))

    def in_thread(uncaught: threading.ExceptHookArgs) -> None:
        if uncaught.exc_value is not None and not issubclass(uncaught.exc_type, SystemExit):
            trace = (uncaught.exc_type, uncaught.exc_value, uncaught.exc_traceback)
            name = uncaught.thread.name if uncaught.thread is not None else None
            log.error("thread.crashed", thread=name, exc_info=trace)

    sys.excepthook = in_main
    threading.excepthook = in_thread


@contextmanager
def bound(**ids: object) -> Generator[None]:
    """Bind ids to every line of this thread until the end of the block; what was bound before comes back."""
    with structlog.contextvars.bound_contextvars(**ids):
        yield


def clear() -> None:
    """Forget what is bound: the thread begins something new."""
    structlog.contextvars.clear_contextvars()


def redact(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Take secrets out of an event, whatever depth they are at; a processor of structlog."""
    return cast("EventDict", _redacted(event))


def redacted(text: str) -> str:
    """Return a text without the signed links and secrets it quotes."""
    if _SIGNS.search(text) is None:
        return text
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def _redacted(value: object, key: object = None) -> object:
    if isinstance(key, str) and key.lower() in _SECRET_KEYS and value is not None:
        return REDACTED
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, Mapping):
        return {name: _redacted(item, name) for name, item in cast("Mapping[object, object]", value).items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_redacted(item) for item in cast("list[object]", value)]
    return value if value is None or isinstance(value, bool | int | float) else redacted(str(value))


def _shared_processors(process: str) -> list[Callable[..., Any]]:
    def name_process(_logger: object, _method: str, event: EventDict) -> EventDict:
        event.setdefault("process", process)
        return event

    return [
        name_process,
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]


def _renderers(log_format: str, stream: TextIO) -> list[Callable[..., Any]]:
    if log_format == "json":
        return [structlog.processors.JSONRenderer(default=str)]
    return [
        structlog.dev.ConsoleRenderer(
            colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback, sort_keys=False
        )
    ]
