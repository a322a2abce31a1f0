"""The API as a partner's program uses it: create a task, poll it, take the link, download, verify.

What lives here: HTTP with the standard library and nothing of the service's inside. Called by cli/demo.py; it may
also be read as an example of a client.
"""

from __future__ import annotations

import hashlib
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

from tasks_service.errors import ServiceError, TransientError

_CHUNK = 256 * 1024
_POLL_SECONDS = 0.25
_TIMEOUT_SECONDS = 60


class RefusedError(ServiceError):
    """The service answered with an error."""

    code = "refused"


class NoAnswerError(TransientError):
    """The service did not answer."""

    code = "no_answer"


class NotTheFileError(ServiceError):
    """What was downloaded is not what the service said it would be."""

    code = "not_the_file"


@dataclass(frozen=True)
class Progress:
    """How far a run is: rows written, and how many there will be once that is known."""

    state: str
    rows: int
    total: int | None


@dataclass(frozen=True)
class Downloaded:
    """A verified file, and what the service said of it."""

    path: Path
    rows: int
    bytes: int
    sha256: str
    link_expires_at: str


class Partner:
    """One client of the service: its address and a token."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._token = token

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        """POST /tasks. Raises RefusedError, NoAnswerError."""
        return self._json("POST", "/tasks", body)

    def follow(self, task_id: int, told: Callable[[Progress], None], *, timeout_seconds: float) -> dict[str, Any]:
        """Poll until the task is DONE or ERROR, telling how far it is; return it.

        Raises:
            NoAnswerError: it did not end in time.
        """
        deadline = time.monotonic() + timeout_seconds
        pause = Event()
        while True:
            task = self._json("GET", f"/tasks/{task_id}")
            state = task["state"]["code"]
            told(self._progress(task_id, state))
            if state in {"DONE", "ERROR"}:
                return task
            if time.monotonic() > deadline:
                raise NoAnswerError(f"Task {task_id} was still {state} after {timeout_seconds:.0f} s.")
            pause.wait(_POLL_SECONDS)

    def download(self, task_id: int, directory: Path) -> Downloaded:
        """Take the link, follow it, and hold what came against what was said.

        Raises:
            NotTheFileError: size or SHA-256 differ.
        """
        said = self._json("GET", f"/tasks/{task_id}/download_url")
        path = directory / Path(said["file_name"]).name
        digest, size = hashlib.sha256(), 0
        # No token here: the link itself is the right to the file.
        request = urllib.request.Request(said["url"])  # noqa: S310 -- the service's own link
        with _answer(request) as answer, path.open("wb") as file:
            while chunk := answer.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
                file.write(chunk)
        if (size, digest.hexdigest()) != (said["bytes"], said["sha256"]):
            raise NotTheFileError(
                f"{path} has {size} bytes and SHA-256 {digest.hexdigest()}; "
                f"the service said {said['bytes']} bytes and {said['sha256']}."
            )
        return Downloaded(path, said["records_count"], size, digest.hexdigest(), said["expires_at"])

    def ready(self) -> bool:
        """Whether GET /readyz says that the service can be used."""
        try:
            with _answer(urllib.request.Request(f"{self._url}/readyz")) as answer:  # noqa: S310
                return answer.status == 200  # noqa: PLR2004
        except (NoAnswerError, RefusedError):
            return False

    def _progress(self, task_id: int, state: str) -> Progress:
        runs = self._json("GET", f"/tasks/{task_id}/runs?limit=1")["results"]
        progress: dict[str, Any] = (runs[0].get("progress") if runs else None) or {}
        return Progress(state, progress.get("rows") or 0, progress.get("total"))

    def _json(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310 -- the service's own address
            f"{self._url}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
        )
        with _answer(request) as answer:
            return json.load(answer)


def _answer(request: urllib.request.Request) -> Any:  # noqa: ANN401 -- urllib's response, untyped
    try:
        return urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)  # noqa: S310
    except urllib.error.HTTPError as error:
        with error:
            text = error.read(4096).decode("utf-8", "replace")
        raise RefusedError(f"The service answered {error.code}: {text}") from error
    except OSError as error:
        raise NoAnswerError from error
