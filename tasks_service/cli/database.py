"""`tasks-service db`: the schema of the database, up, down, and which it is."""

from __future__ import annotations

from typing import Annotated

import typer

from tasks_service.cli.invocation import JsonOption, group, invocation, say, write, write_json

group = group("db", "The schema of the database.")


@group.command()
def upgrade(context: typer.Context) -> None:
    """Create the tables, or bring them to the schema this version knows. Harmless to repeat."""
    from tasks_service.database import schema

    database = invocation(context).database
    before = schema.current_revision(database)
    schema.upgrade(database)
    after = schema.current_revision(database)
    say(f"The schema is {after}." if before == after else f"The schema is now {after}; it was {before or 'empty'}.")


@group.command()
def downgrade(
    context: typer.Context,
    revision: Annotated[str, typer.Argument(help="The revision to go back to; base: no tables at all.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask. What newer columns hold is lost.")] = False,
) -> None:
    """Bring the schema back to an older one, before an older version of the service is installed."""
    from tasks_service.database import schema

    if not yes:
        typer.confirm("What the newer columns hold is lost. Go on?", abort=True, err=True)
    database = invocation(context).database
    schema.downgrade(database, revision)
    say(f"The schema is now {schema.current_revision(database) or 'empty'}.")


@group.command()
def current(context: typer.Context, as_json: JsonOption = False) -> None:
    """Print the schema's revision. Exit code 2 where it is not the one this version knows."""
    from tasks_service.database import schema

    database = invocation(context).database
    found, head = schema.current_revision(database), schema.head_revision()
    if as_json:
        write_json({"current": found, "known": head})
    else:
        write(found or "empty")
    schema.require_current(database)
