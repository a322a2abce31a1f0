"""What every command shares: its options, the settings it was called with, and how it speaks.

What lives here: the root of the command line, `Invocation` (settings, services and database of this call, made when
first asked for), and the two ways of output. What does not: commands. Used by every module of cli/.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from tasks_service import __version__, telemetry
from tasks_service.config import Settings
from tasks_service.config_loading import load_settings

if TYPE_CHECKING:
    from sqlmodel import Session

    from tasks_service.app import Services
    from tasks_service.database.engine import Database

T = TypeVar("T")

ABOUT = """Scheduled and on-demand exports: tasks over HTTP, files in object storage.

Data goes to standard output, everything else to standard error. Exit codes: 0 done, 1 failed, 2 wrong usage or
configuration, 130 interrupted.
"""


@dataclass
class Invocation:
    """One call of the command line."""

    path: Path | None

    @cached_property
    def settings(self) -> Settings:
        """The settings. Raises ConfigurationError with every fault."""
        return load_settings(self.path, os.environ)

    @cached_property
    def database(self) -> Database:
        """The database, not connected yet."""
        from tasks_service.database.engine import Database

        return Database(self.settings.database)

    def ready_database(self) -> Database:
        """Return the database after looking that it has the schema this version knows."""
        from tasks_service.database import schema

        schema.require_current(self.database)
        if self.settings.executor.kind == "procrastinate":
            from tasks_service.executors import procrastinate_schema

            with self.database.read() as session:
                procrastinate_schema.require_fitting(session.connection())
        return self.database

    def writing(self, write: Callable[[Session, datetime], T]) -> T:
        """Run one transaction; `write` gets the session and the database's time."""
        database = self.ready_database()
        with database.write() as session:
            return write(session, database.now(session))

    def reading(self, read: Callable[[Session], T]) -> T:
        """Read in one session."""
        with self.ready_database().read() as session:
            return read(session)

    def services(self) -> Services:
        """Build the services of a process."""
        from tasks_service.app import build

        return build(self.settings)

    def log_as(self, process: str) -> None:
        """Send this process's log where and how the settings say."""
        service = self.settings.service
        telemetry.configure(log_format=service.log_format, level=service.log_level, process=process)
        telemetry.log_uncaught()

    def environ(self) -> dict[str, str]:
        """Return the environment for a child that is to have the same settings."""
        path = {} if self.path is None else {"TASKS_CONFIG": str(self.path.resolve())}
        return {**os.environ, **path}


def invocation(context: typer.Context) -> Invocation:
    """Return the invocation a command belongs to."""
    return context.ensure_object(Invocation)


def _version(wanted: bool) -> None:
    if wanted:
        write(__version__)
        raise typer.Exit


def application() -> typer.Typer:
    """Return the root of the command line, with no command yet."""
    app = typer.Typer(
        name="tasks-service",
        help=ABOUT,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )

    @app.callback()
    def root(  # pyright: ignore[reportUnusedFunction] -- typer keeps it
        context: typer.Context,
        config: Annotated[
            Path | None,
            typer.Option("--config", metavar="FILE", help="Read this file rather than ./config.toml."),
        ] = None,
        _: Annotated[
            bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
        ] = False,
    ) -> None:
        context.obj = Invocation(config)
        telemetry.configure(log_format="console", level="warning", process="cli")

    return app


def group(name: str, about: str) -> typer.Typer:
    """Return a group of commands."""
    return typer.Typer(name=name, help=about, no_args_is_help=True, rich_markup_mode=None)


JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def write(text: str) -> None:
    """Print data: a line on standard output."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """Print anything else: a line on standard error."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def write_json(value: object) -> None:
    """Print a value as JSON; instants in UTC with `Z`."""

    def other(item: object) -> object:
        return moment(item) if isinstance(item, datetime) else str(item)

    write(json.dumps(value, indent=2, default=other, ensure_ascii=False))


def write_rows(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool) -> None:
    """Print rows as a table with a heading, or as a JSON array."""
    found = list(rows)
    if as_json:
        write_json([{name: row[name] for name in columns} for row in found])
        return
    cells = [[name.upper().replace("_", " ") for name in columns]]
    cells += [[cell(row[name]) for name in columns] for row in found]
    widths = [max(len(line[place]) for line in cells) for place in range(len(columns))]
    for line in cells:
        write("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def moment(when: datetime | None) -> str | None:
    """Write an instant as the API does: whole seconds, UTC, `Z`."""
    return None if when is None else when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def cell(value: object) -> str:
    """Write one value of a table."""
    if isinstance(value, datetime):
        return moment(value) or ""
    if isinstance(value, list | tuple | set | frozenset):
        return " ".join(sorted(map(str, value)))  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType] -- any items
    return "-" if value is None else str(value)
