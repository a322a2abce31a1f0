"""`tasks-service tokens`: the keys of clients. A secret is printed once, when its token is made."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tasks_service.cli.invocation import JsonOption, group, invocation, moment, say, write, write_json, write_rows
from tasks_service.errors import NotFoundError

if TYPE_CHECKING:
    from sqlmodel import Session

    from tasks_service.database.models import Client, Token

group = group("tokens", "The keys of clients.")

_COLUMNS = ("id", "client", "created_at", "expires_at", "last_used_at", "revoked_at")


@group.command()
def create(
    context: typer.Context,
    client: Annotated[str, typer.Option(help="The name or id of the client.")],
    days: Annotated[int | None, typer.Option(min=1, help="Days until it expires; without: until revoked.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a token and print it, TOKEN_ID:TOKEN_SECRET, this once: only a hash of it is kept.

    Standard output holds the token alone: `TOKEN=$(tasks-service tokens create --client NAME)`.
    """
    from tasks_service.database import clients

    lifetime = None if days is None else timedelta(days=days)
    call = invocation(context)
    owner = call.reading(lambda session: _client(session, client))
    token, text = call.writing(
        lambda session, now: clients.create_token(session, now=now, client=owner, lifetime=lifetime)
    )
    if as_json:
        write_json({"token": text, **_row(token, {owner.id: owner})})
        return
    write(text)
    until = f"until {moment(token.expires_at)}" if token.expires_at else "until it is revoked"
    say(f"A token of {owner.name}, valid {until}. Keep it now: it is not shown again.")


@group.command("list")
def list_(
    context: typer.Context,
    client: Annotated[str | None, typer.Option(help="Only those of this client, by name or id.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the tokens, without their secrets."""
    from tasks_service.database import clients

    def read(session: Session) -> list[dict[str, Any]]:
        owners = {owner.id: owner for owner in clients.list_clients(session, removed=True)}
        only = None if client is None else _client(session, client).id
        return [_row(token, owners) for token in clients.list_tokens(session, client_id=only)]

    write_rows(invocation(context).reading(read), _COLUMNS, as_json=as_json)


@group.command()
def revoke(
    context: typer.Context,
    token_id: Annotated[str, typer.Argument(help="The id of the token, the part before the colon.")],
) -> None:
    """End a token now. The schedules of its client go on."""
    from tasks_service.database import clients

    # Somebody who pastes the whole token must not find its secret in an error.
    only_id = token_id.partition(":")[0]
    invocation(context).writing(lambda session, now: clients.revoke_token(session, only_id, now=now))
    say(f"Revoked the token {only_id}.")


def _client(session: Session, name: str) -> Client:
    from tasks_service.database import clients

    found = clients.find_client(session, name)
    if found is None:
        raise NotFoundError(f"There is no client {name}; `tasks-service clients list` shows them.")
    return found


def _row(token: Token, owners: dict[str, Client]) -> dict[str, Any]:
    return {
        "id": token.id,
        "client": owners[token.client_id].name,
        "created_at": token.created_at,
        "expires_at": token.expires_at,
        "last_used_at": token.last_used_at,
        "revoked_at": token.revoked_at,
    }
