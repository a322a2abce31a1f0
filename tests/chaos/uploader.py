"""Uploads that are killed: a process that forks one uploader for each order, which kills itself at a chosen step.

Started by test_uploads.py as ``python -m tests.chaos.uploader DESCRIPTION``, with orders as JSON lines on its
standard input and an answer to each on its standard output. A step is the moment before or after a call to
the system or to the network; SIGKILL comes from the uploader itself, so that it strikes exactly there on any
machine.
"""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import random
import signal
import sys
from collections.abc import Callable
from typing import Any

from tests.storages import opened

LIMIT_SECONDS = 120
PIECE = 64 * 1024

_steps = 0
_die_at: int | None = None


def content(size: int) -> bytes:
    """The bytes every uploader of that size writes."""
    return random.Random(size).randbytes(size)


def _step() -> None:
    global _steps  # noqa: PLW0603 -- one process, one count
    if _steps == _die_at:
        os.kill(os.getpid(), signal.SIGKILL)
    _steps += 1


def _stepped(real: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        _step()
        try:
            return real(*arguments, **named)
        finally:
            _step()

    return call


def _send_in_pieces(real: Callable[..., Any]) -> Callable[..., Any]:
    """A chunk can be cut off in its middle."""

    def send(connection: http.client.HTTPConnection, data: Any) -> None:
        _step()
        if isinstance(data, bytes) and len(data) > PIECE:
            for start in range(0, len(data), PIECE):
                real(connection, data[start : start + PIECE])
                _step()
        else:
            real(connection, data)
            _step()

    return send


def _watch() -> None:
    for name in ("open", "write", "fsync", "rename", "mkdir", "pwrite"):
        setattr(os, name, _stepped(getattr(os, name)))
    fcntl.flock = _stepped(fcntl.flock)
    http.client.HTTPConnection.send = _send_in_pieces(http.client.HTTPConnection.send)  # type: ignore[method-assign]
    http.client.HTTPConnection.getresponse = _stepped(http.client.HTTPConnection.getresponse)  # type: ignore[method-assign]


def _upload(description: str, order: dict[str, Any]) -> None:
    storage = opened(description)
    data = content(order["size"])
    with storage.upload(order["name"], content_type="text/csv") as upload:
        for start in range(0, len(data), order["piece"]):
            upload.write(data[start : start + order["piece"]])
            _step()
        upload.commit()
    _step()


def _fork(description: str, order: dict[str, Any]) -> dict[str, Any]:
    global _die_at  # noqa: PLW0603 -- of the child alone
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(LIMIT_SECONDS)
            os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # the standard output is for answers
            tell = os.write
            _die_at = order["die_at"]
            _watch()
            _upload(description, order)
            tell(writing, str(_steps).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading, "rb") as told:
        steps = told.read()
    _, status = os.waitpid(child, 0)
    return {"status": os.waitstatus_to_exitcode(status), "steps": int(steps) if steps else None}


def main() -> None:
    """Answer orders until there are no more."""
    description = sys.argv[1]
    if json.loads(description)["kind"] == "gcs":
        from google.auth.credentials import CredentialsWithRegionalAccessBoundary

        # As in the fixture of the front: google-auth would ask Google itself, in a thread.
        lookup = "_is_regional_access_boundary_lookup_required"
        setattr(CredentialsWithRegionalAccessBoundary, lookup, lambda _: False)
        opened(description).stat("warm")  # what is imported is imported before the fork
    for line in sys.stdin:
        sys.stdout.write(json.dumps(_fork(description, json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
