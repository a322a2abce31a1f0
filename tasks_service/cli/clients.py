"""`tasks-service clients`: who may use the API: integrations of one chain, and operators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tasks_service.cli.invocation import JsonOption, group, invocation, say, write_json, write_rows
from tasks_service.errors import NotFoundError

if TYPE_CHECKING:
    from tasks_service.database.models import Client

group = group("clients", "Who may use the API.")

_COLUMNS = ("name", "id", "chain", "scopes", "created_at", "removed_at")


@group.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A name to recognise it by, e.g. erp-nightly.")],
    chain: Annotated[int | None, typer.Option(min=1, help="The chain whose tasks and rows it may reach.")] = None,
    operator: Annotated[bool, typer.Option("--operator", help="Every chain, instead of one.")] = False,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help="tasks:read, tasks:write or admin; repeat for several. Default: the first two; an operator: all."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a client. It needs a token next: `tasks-service tokens create --client NAME`."""
    from tasks_service.database import clients

    if operator == (chain is not None):
        raise typer.BadParameter("give --chain NUMBER for a client of one chain, or --operator for all of them.")
    if unknown := sorted(set(scope or ()) - set(clients.SCOPES)):
        raise typer.BadParameter(f"there is no scope {unknown[0]!r}; there are {', '.join(clients.SCOPES)}.")
    scopes = scope or (clients.SCOPES if operator else clients.SCOPES[:2])
    client = invocation(context).writing(
        lambda session, now: clients.create_client(session, now=now, name=name, chain=chain, scopes=scopes)
    )
    if as_json:
        write_json(_row(client))
    else:
        write_rows([_row(client)], _COLUMNS[:-1], as_json=False)
        say(f"Next: tasks-service tokens create --client {client.name}")


@group.command("list")
def list_(
    context: typer.Context,
    removed: Annotated[bool, typer.Option("--removed", help="Also those that were removed.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the clients."""
    from tasks_service.database import clients

    found = invocation(context).reading(lambda session: clients.list_clients(session, removed=removed))
    write_rows(map(_row, found), _COLUMNS if removed or as_json else _COLUMNS[:-1], as_json=as_json)


@group.command()
def remove(context: typer.Context, name: Annotated[str, typer.Argument(help="The name or id of the client.")]) -> None:
    """Remove a client: its tokens end now, its schedules pause when they next come due."""
    from tasks_service.database import clients

    client = invocation(context).reading(lambda session: clients.find_client(session, name))
    if client is None:
        raise NotFoundError(f"There is no client {name}; `tasks-service clients list` shows them.")
    invocation(context).writing(lambda session, now: clients.remove_client(session, client.id, now=now))
    say(f"Removed the client {client.name} ({client.id}).")


def _row(client: Client) -> dict[str, Any]:
    return {
        "name": client.name,
        "id": client.id,
        "chain": "every" if client.chain is None else client.chain,
        "scopes": client.scopes,
        "created_at": client.created_at,
        "removed_at": client.removed_at,
    }
