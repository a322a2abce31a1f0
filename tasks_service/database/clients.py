"""Clients and their tokens: who may ask, by which key, and whether they still may.

Called by api/auth (authenticate), cli/ (create, list, revoke, remove) and by the runner and the scheduler
(standing). A secret is returned once, when its token is made; only its SHA-256 is kept, which suffices for
256 random bits.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import bindparam, update
from sqlalchemy import select as select_columns
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from tasks_service.database.engine import Database
from tasks_service.database.models import Client, Token
from tasks_service.database.statements import changed
from tasks_service.errors import ConflictError, DatabaseUnavailableError, NotFoundError

SCOPES = ("tasks:read", "tasks:write", "admin")
# Written at most so often: a token in busy use must not turn every read into a write.
_LAST_USED_EVERY = timedelta(minutes=1)
_NO_SECRET = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True)
class Principal:
    """Who asks: a client of one chain, or an operator (`chain` None, every chain)."""

    client_id: str
    name: str
    chain: int | None
    scopes: frozenset[str]
    type: Literal["client", "operator"]


def create_client(session: Session, *, now: datetime, name: str, chain: int | None, scopes: Sequence[str]) -> Client:
    """Make a client; `chain` None makes an operator.

    Raises:
        ConflictError: another client of that name exists.
        ValueError: a scope is none of SCOPES.
    """
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown:
        raise ValueError(f"unknown scope {unknown[0]!r}; known are {', '.join(SCOPES)}")
    client = Client(
        id=f"client_{secrets.token_hex(6)}",
        name=name,
        chain=chain,
        scopes=sorted(set(scopes)),
        created_at=now,
    )
    try:
        with session.begin_nested():
            session.add(client)
            session.flush()
    except IntegrityError as exc:
        raise ConflictError(f"There is a client named {name} already; choose another name.") from exc
    return client


def create_token(
    session: Session, *, now: datetime, client: Client, lifetime: timedelta | None = None
) -> tuple[Token, str]:
    """Make a key of a client; return it with the `TOKEN_ID:TOKEN_SECRET` that is shown once.

    No lifetime: until revoked.
    """
    secret = secrets.token_urlsafe(32)
    token = Token(
        id=f"tok_{secrets.token_hex(8)}",
        client_id=client.id,
        secret_sha256=hashlib.sha256(secret.encode()).hexdigest(),
        created_at=now,
        expires_at=None if lifetime is None else now + lifetime,
    )
    session.add(token)
    session.flush()
    return token, f"{token.id}:{secret}"


def authenticate(database: Database, token_id: str, secret: str) -> Principal | None:
    """Return whose key this is; None for an unknown, expired or revoked one, or one of a removed client.

    Takes the same time whether or not the token exists. Notes the use of the token, at most once a minute.

    Raises:
        DatabaseUnavailableError: the database did not answer.
    """
    given = hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
    with database.read() as session:
        now = database.now(session)
        # NUL and lone surrogates are in no id, and PostgreSQL takes them in no text.
        known = token_id.isascii() and "\0" not in token_id
        # Every request asks this: as plain columns it costs a fifth of what two objects would.
        key = session.connection().execute(_KEY, {"token_id": token_id}).first() if known else None
    equal = hmac.compare_digest(given, key.secret_sha256 if key is not None else _NO_SECRET)
    if not equal or key is None or key.revoked_at is not None or key.removed_at is not None:
        return None
    if key.expires_at is not None and now >= key.expires_at:
        return None
    if key.last_used_at is None or now - key.last_used_at >= _LAST_USED_EVERY:
        _note_use(database, token_id, now)
    return Principal(
        client_id=key.client_id,
        name=key.name,
        chain=key.chain,
        scopes=frozenset(key.scopes),
        type="operator" if key.chain is None else "client",
    )


_KEY = (
    select_columns(
        col(Token.secret_sha256),
        col(Token.revoked_at),
        col(Token.expires_at),
        col(Token.last_used_at),
        col(Token.client_id),
        col(Client.name),
        col(Client.chain),
        col(Client.scopes),
        col(Client.removed_at),
    )
    .join(Client, col(Client.id) == col(Token.client_id))
    .where(col(Token.id) == bindparam("token_id"))
)


def _note_use(database: Database, token_id: str, now: datetime) -> None:
    before = now - _LAST_USED_EVERY
    try:
        with database.write() as session:
            session.exec(
                update(Token)
                .where(
                    col(Token.id) == token_id,
                    col(Token.last_used_at).is_(None) | (col(Token.last_used_at) <= before),
                )
                .values(last_used_at=now)
            )
    except DatabaseUnavailableError:
        pass  # a note only: the caller is authenticated, and the next use notes again


def revoke_token(session: Session, token_id: str, *, now: datetime) -> None:
    """End a token; schedules of its client go on.

    Raises:
        NotFoundError: there is no such token.
    """
    token = session.get(Token, token_id)
    if token is None:
        raise NotFoundError(f"There is no token {token_id}; `tasks-service tokens list` shows them.")
    if token.revoked_at is None:
        token.revoked_at = now
        session.add(token)


def remove_client(session: Session, client_id: str, *, now: datetime) -> None:
    """Remove a client with its tokens; its schedules pause, with a reason, when they next come due.

    Raises:
        NotFoundError: there is no such client.
    """
    client = session.get(Client, client_id)
    if client is None or client.removed_at is not None:
        raise NotFoundError(f"There is no client {client_id}; `tasks-service clients list` shows them.")
    client.removed_at = now
    session.add(client)
    session.exec(
        update(Token).where(col(Token.client_id) == client_id, col(Token.revoked_at).is_(None)).values(revoked_at=now)
    )


def set_scopes(session: Session, client_id: str, scopes: Sequence[str]) -> bool:
    """Replace the scopes of a client; False where there is no such client."""
    return changed(session.exec(update(Client).where(col(Client.id) == client_id).values(scopes=sorted(set(scopes)))))


def find_client(session: Session, name_or_id: str) -> Client | None:
    """Return the client of that id or name; removed ones are not found."""
    found = session.exec(
        select(Client).where(
            (col(Client.id) == name_or_id) | (col(Client.name) == name_or_id),
            col(Client.removed_at).is_(None),
        )
    )
    return found.first()


def list_clients(session: Session, *, removed: bool = False) -> Sequence[Client]:
    """Return the clients by name; with `removed`, those that were removed too."""
    query = select(Client).order_by(col(Client.name), col(Client.id))
    return session.exec(query if removed else query.where(col(Client.removed_at).is_(None))).all()


def list_tokens(session: Session, *, client_id: str | None = None) -> Sequence[Token]:
    """Return the tokens, oldest first, of one client or of all."""
    query = select(Token).order_by(col(Token.created_at), col(Token.id))
    return session.exec(query if client_id is None else query.where(Token.client_id == client_id)).all()


def standing(session: Session, client_id: str) -> str | None:
    """Return why this client's tasks may no longer run, as a slug; None where they may.

    Asked again at every run's start.
    """
    client = session.get(Client, client_id)
    return "client_removed" if client is None else standing_of(client)


def standing_of(client: Client) -> str | None:
    """Return what `standing` does, of a client that was read already."""
    if client.removed_at is not None:
        return "client_removed"
    return None if "tasks:write" in client.scopes or "admin" in client.scopes else "scope_lost"
