"""Index templates in a cluster: which are there, and putting one. The one thing the service ever writes there.

A template says how indices that are made later are mapped; nothing here touches an index. Called by
`tasks-service indices apply` only.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast
from urllib.parse import quote

import msgspec

from tasks_service.config import ElasticsearchSettings
from tasks_service.errors import SourceError
from tasks_service.sources.elasticsearch_calls import Call, Calls, index_path

_MISSING = 404
_REFUSED = frozenset({400, 401, 403})


class Templates:
    """The index templates of one cluster."""

    def __init__(self, calls: Calls) -> None:
        """Take the calls; they are not closed here."""
        self._calls = calls
        self._pause = threading.Event().wait

    def get(self, name: str) -> dict[str, Any] | None:
        """Return a template, or None. Raises SourceError, SourceUnavailableError."""
        status, answer = self._send(Call("template", "GET", _path(name), tolerated=(_MISSING,)))
        if status == _MISSING:
            return None
        return cast("dict[str, Any]", answer["index_templates"][0]["index_template"])

    def put(self, name: str, body: dict[str, Any]) -> None:
        """Put a template in the place of one of this name. Raises SourceError with what would help."""
        status, _ = self._send(Call("put_template", "PUT", _path(name), body, tolerated=tuple(_REFUSED)))
        if status in {401, 403}:
            raise SourceError(
                f"Elasticsearch does not permit the configured user to put the index template {name}; it needs the "
                "cluster privilege manage_index_templates."
            )
        if status in _REFUSED:
            raise SourceError(
                f"Elasticsearch refuses the index template {name}: another template of the priority "
                f"{body['priority']} is for indices of the same names, or the cluster is older than 8.19."
            )

    def overlapping(self, name: str) -> list[str]:
        """Return the other templates for the same indices, by name: of two, the one of higher priority is used."""
        _, answer = self._send(Call("overlapping", "POST", f"/_index_template/_simulate/{quote(name, safe='')}"))
        return sorted(other["name"] for other in answer.get("overlapping") or ())

    def indices(self, source: str) -> list[str]:
        """Return the indices that a name, an alias or a pattern stands for; none is no error."""
        status, answer = self._send(Call("indices", "GET", index_path(source, "/_mapping"), tolerated=(_MISSING,)))
        return [] if status == _MISSING else sorted(answer)

    def _send(self, call: Call) -> tuple[int, dict[str, Any]]:
        def read(status: int, body: bytes) -> tuple[int, dict[str, Any]]:
            return status, msgspec.json.decode(body, type=dict[str, Any])

        return self._calls.send(call, read, self._pause)


@contextmanager
def templates(settings: ElasticsearchSettings) -> Generator[Templates]:
    """Give the templates of a cluster; its connections are closed in the end."""
    calls = Calls(settings)
    try:
        yield Templates(calls)
    finally:
        calls.close()


def _path(name: str) -> str:
    return f"/_index_template/{quote(name, safe='')}"
