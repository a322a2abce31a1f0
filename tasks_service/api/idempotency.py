"""Idempotency-Key: whoever asks again, however often and from however many threads, gets the first answer.

The answer is kept in the transaction that makes what it tells of, so that a second request under the key makes nothing.
A key belongs to a client, and to one request: the same route with the same body. Called by the routes that create.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session

from tasks_service.api.calls import Call, Reply
from tasks_service.api.problems import InvalidParametersError
from tasks_service.api.routes import Header
from tasks_service.api.tags import idempotency_key
from tasks_service.database import tasks
from tasks_service.errors import Fault

IDEMPOTENCY_KEY = Header(
    "Idempotency-Key",
    "A name of this request, bare or as a quoted string. The same key with the same body is answered what "
    "it was answered first, and makes nothing a second time; with another body it is refused.",
)


@dataclass(frozen=True)
class Keyed:
    """A request that names itself."""

    key: str
    fingerprint: str


class _SecondError(Exception):
    """Another request under the same key was first."""


def answered_once(call: Call, place: str, make: Callable[[Keyed | None], Reply]) -> Reply:
    """Answer what `make` does, or what the same request was answered before; `place` is the route's own path."""
    keyed = _keyed(call, place)
    if keyed is None:
        return make(None)
    if (reply := _recalled(call, keyed)) is not None:
        return reply
    try:
        return make(keyed)
    except _SecondError:
        if (reply := _recalled(call, keyed)) is None:
            raise
        return reply


def remember(call: Call, session: Session, keyed: Keyed, reply: Reply, *, task_id: int, now: datetime) -> None:
    """Keep an answer, in the transaction that made it true; what this raises rolls that back."""
    kept = tasks.remember_answer(
        session,
        now=now,
        client_id=call.principal.client_id,
        key=keyed.key,
        fingerprint=keyed.fingerprint,
        task_id=task_id,
        answer={"document": reply.document, "status": reply.status, "headers": dict(reply.headers)},
    )
    if not kept:
        raise _SecondError


def _keyed(call: Call, place: str) -> Keyed | None:
    key = idempotency_key(call.headers.get("Idempotency-Key"))
    if key is None:
        return None
    said = json.dumps([place, call.body.document], sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return Keyed(key, hashlib.sha256(said.encode()).hexdigest())


def _recalled(call: Call, keyed: Keyed) -> Reply | None:
    with call.services.database.read() as session:
        first = tasks.recall_answer(session, call.principal.client_id, keyed.key)
    if first is None:
        return None
    if first.fingerprint != keyed.fingerprint:
        detail = "This key came with another request before; use a new key for a new one."
        raise InvalidParametersError(faults=[Fault("Idempotency-Key", "key_reused", detail)])
    answer = first.answer
    return Reply(answer["document"], answer["status"], answer["headers"] | {"Idempotent-Replayed": "true"})
