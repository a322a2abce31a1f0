"""Opaque, signed cursors: where a page starts, in which direction, and of which list.

A cursor is bound to the list it was made for (route, filters, and whose token), so that it shows nothing under other
filters; it never expires, because rows are found by their position and not by a count. Called by the list routes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlencode

from tasks_service.api.problems import InvalidParametersError
from tasks_service.errors import Fault

Direction = Literal["next", "previous"]
_DIRECTIONS: Mapping[str, Direction] = {"n": "next", "p": "previous"}
_TAG_BYTES = 16


@dataclass(frozen=True)
class Position:
    """Where a page starts: behind the row with this id; at the newest where there is none."""

    after: int | None = None
    direction: Direction = "next"


class Pages:
    """The cursors of one list: one route, one set of filters, one token's client."""

    def __init__(self, key: bytes, path: str, filters: Mapping[str, Any], client_id: str) -> None:
        self._path = path
        self._filters = {name: value for name, value in filters.items() if value is not None}
        bound = json.dumps([path, sorted(self._filters.items()), client_id])
        self._key = hmac.digest(key, f"cursor:{bound}".encode(), hashlib.sha256)

    def position(self, cursor: str | None) -> Position:
        """Return where a cursor points; raise InvalidParametersError for one this list did not hand out."""
        if cursor is None:
            return Position()
        try:
            raw = base64.b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        except (UnicodeEncodeError, binascii.Error):
            raw = b""
        tag, said = raw[:_TAG_BYTES], raw[_TAG_BYTES:]
        if not hmac.compare_digest(tag, self._tag(said)):
            detail = "Take the whole `next` or `previous` of a page, with the filters it was made for."
            raise InvalidParametersError(faults=[Fault("cursor", "invalid_cursor", detail)])
        return Position(int(said[1:]), _DIRECTIONS[said[:1].decode()])

    def links(
        self, ids: Sequence[int], position: Position, *, more: bool, limit: int, base: str
    ) -> dict[str, str | None]:
        """Return the links of a page that holds the rows of these ids, newest first.

        `more` tells whether there are rows beyond the page in the direction it was read in. A page that was reached
        from its other side has rows there: the ones the cursor came from.
        """
        back = position.direction == "previous"
        older = (more if not back else True) and bool(ids)
        newer = (more if back else position.after is not None) and bool(ids)
        if not ids and position.after is not None:
            # An empty page lies at an end of the list: the only way is back.
            edge = position.after
            return {
                "next": self._url(base, "n", edge + 1, limit) if back else None,
                "previous": None if back else self._url(base, "p", edge - 1, limit),
            }
        return {
            "next": self._url(base, "n", ids[-1], limit) if older else None,
            "previous": self._url(base, "p", ids[0], limit) if newer else None,
        }

    def _url(self, base: str, direction: str, after: int, limit: int) -> str:
        said = f"{direction}{after}".encode()
        cursor = base64.urlsafe_b64encode(self._tag(said) + said).decode().rstrip("=")
        return f"{base.rstrip('/')}{self._path}?{urlencode({**self._filters, 'limit': limit, 'cursor': cursor})}"

    def _tag(self, said: bytes) -> bytes:
        return hmac.digest(self._key, said, hashlib.sha256)[:_TAG_BYTES]
