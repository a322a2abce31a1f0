"""Calls to Elasticsearch: raw bytes in and out, repeated where repeating is safe, failures in the service's words.

What lives here is the transport and the judgement of statuses; what an answer means is elasticsearch_pages.py's. Every
call made here may be repeated: a page of a point-in-time is a pure function of its request. The product check and the
vendor's media types are left out, so that servers 8 and 9 are spoken to alike. Called by elasticsearch.py.
"""

from __future__ import annotations

import base64
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import msgspec
import structlog

from tasks_service.config import ElasticsearchSettings
from tasks_service.errors import SnapshotLostError, SourceError, SourceUnavailableError, asked_seconds
from tasks_service.sources.elasticsearch_pages import PartialAnswerError, error_types

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

log = structlog.stdlib.get_logger(__name__)

T = TypeVar("T")

ATTEMPTS = 7
"""How often one request is sent before the source counts as unavailable."""

_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 8.0
_SPARE_CONNECTIONS = 4
_LOST = frozenset(
    {
        "search_context_missing_exception",
        "search_context_missing_nodes_exception",  # a node that the snapshot was read from has left (8.19, measured)
        "no_shard_available_action_exception",
    }
)
_MISSING = frozenset({"index_not_found_exception", "index_closed_exception"})


@dataclass(frozen=True, slots=True)
class Call:
    """One request. `what` names it in the log; `pinned` ones read a point-in-time and lose it with its index."""

    what: str
    method: str
    path: str
    body: dict[str, Any] | None = None
    tolerated: tuple[int, ...] = ()
    attempts: int = ATTEMPTS
    timeout: float | None = None
    pinned: bool = False


Pause = Callable[[float], bool]
"""Waits so many seconds; True when the waiting was ended because the answer is not wanted any more."""


class Calls:
    """One cluster. Connects with the first call; safe to share between threads."""

    def __init__(self, settings: ElasticsearchSettings, *, jitter: Callable[[], float] = random.random) -> None:
        """Take the settings, and where the randomness of pauses comes from."""
        self._settings = settings
        self._jitter = jitter
        self._lock = threading.Lock()
        self._client: Elasticsearch | None = None
        self._headers = {"accept": "application/json", "content-type": "application/json", **_authorization(settings)}

    def send(self, call: Call, read: Callable[[int, bytes], T], pause: Pause) -> T:
        """Send a request until `read` takes its answer.

        `read` gets the status and the body of an answer that is 2xx or tolerated, and raises PartialAnswerError to have
        the request repeated. Raises SourceError, SnapshotLostError; SourceUnavailableError after the last attempt.
        """
        failure: PartialAnswerError | None = None
        for attempt in range(1, call.attempts + 1):
            try:
                return read(*self._once(call))
            except PartialAnswerError as error:
                log.warning("source.call_repeated", call=call.what, attempt=attempt, reason=str(error))
                failure = error
            if attempt < call.attempts and pause(self._delay(attempt, failure.retry_after)):
                raise SourceUnavailableError("The source was closed while it was read.") from failure
        raise SourceUnavailableError(
            "Elasticsearch did not give a whole answer, though it was asked repeatedly.",
            retry_after=failure.retry_after if failure is not None else None,
        ) from failure

    def _delay(self, attempt: int, asked: float | None) -> float:
        """Return the pause before the next try: jittered, and what the server asked for as far as a call may wait."""
        return min(_LONGEST_PAUSE, asked or 0.0) + self._jitter() * min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**attempt)

    def _once(self, call: Call) -> tuple[int, bytes]:
        import elastic_transport

        body = None if call.body is None else msgspec.json.encode(call.body)
        transport = self._connected().transport
        try:
            meta, answer = transport.perform_request(
                call.method,
                call.path,
                headers=self._headers,
                body=body,
                max_retries=0,
                request_timeout=call.timeout or self._settings.request_timeout_seconds,
            )
        except elastic_transport.TlsError as exc:
            raise SourceError("Elasticsearch's certificate is not trusted; set elasticsearch.ca_certs.") from exc
        except elastic_transport.TransportError as exc:
            raise PartialAnswerError(type(exc).__name__) from exc
        raw = answer if isinstance(answer, bytes) else b""
        if 200 <= meta.status < 300 or meta.status in call.tolerated:  # noqa: PLR2004 -- HTTP's own numbers
            return meta.status, raw
        raise judged(meta.status, raw, pinned=call.pinned, retry_after=asked_seconds(meta.headers.get("retry-after")))

    def _connected(self) -> Elasticsearch:
        with self._lock:
            if self._client is None:
                self._client = self._connect()
            return self._client

    def _connect(self) -> Elasticsearch:
        from elastic_transport import Serializer
        from elasticsearch import Elasticsearch

        class Untouched(Serializer):
            """Leaves bodies as they are: documents are not decoded to be encoded again."""

            mimetype = "application/json"

            def loads(self, data: bytes) -> bytes:
                return data

            def dumps(self, data: Any) -> bytes:  # noqa: ANN401 -- the vendor's signature
                return data

        options: dict[str, Any] = {
            "serializers": {"application/json": Untouched()},
            "connections_per_node": self._settings.slices + _SPARE_CONNECTIONS,
            "max_retries": 0,
        }
        if self._settings.ca_certs is not None:
            options["ca_certs"] = str(self._settings.ca_certs)
        return Elasticsearch(self._settings.urls, **options)

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()


def index_path(index: str, end: str) -> str:
    """Return the path of a call on one index; its name cannot reach another part of the API."""
    return f"/{quote(index, safe='')}{end}"


def judged(status: int, body: bytes, *, pinned: bool = False, retry_after: float | None = None) -> Exception:
    """Return what an answer that is no success means: one of the service's errors, or PartialAnswerError."""
    types = error_types(body)
    if types & _LOST or (pinned and (status == 404 or types & _MISSING)):  # noqa: PLR2004 -- HTTP's own numbers
        return SnapshotLostError("Elasticsearch no longer has the snapshot; the export starts over.")
    if types & _MISSING:
        return SourceError("Elasticsearch has no such index, or it is closed.")
    if status in {401, 403}:
        return SourceError("Elasticsearch refuses the configured user or API key for this index.")
    if status == 429 or status >= 500:  # noqa: PLR2004 -- HTTP's own numbers
        return PartialAnswerError(f"status {status}", retry_after=retry_after)
    return SourceError("Elasticsearch refused the query.")


def _authorization(settings: ElasticsearchSettings) -> dict[str, str]:
    if settings.api_key is not None:
        return {"authorization": f"ApiKey {settings.api_key.get_secret_value()}"}
    if settings.username is not None:
        password = settings.password.get_secret_value() if settings.password is not None else ""
        return {"authorization": "Basic " + base64.b64encode(f"{settings.username}:{password}".encode()).decode()}
    return {}
