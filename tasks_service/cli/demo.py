"""`tasks-service demo`: the whole product in one command, on nothing but Python.

What lives here: a directory with sample data, a database and a configuration of its own; the service as a child; one
export over HTTP from the creation to the verified file. What does not: HTTP (partner.py). `make demo` calls it.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from pathlib import Path
from threading import Event
from typing import Annotated, Any

import typer

from tasks_service.cli.invocation import moment, say, write
from tasks_service.cli.partner import Downloaded, Partner, Progress
from tasks_service.config import Settings
from tasks_service.config_loading import load_settings
from tasks_service.errors import ServiceError

CHAIN = 1764
_HOST = "127.0.0.1"
_TOKEN_DAYS = 7
_UP_SECONDS = 90
_EXPORT_SECONDS = 900
_DRAIN_SECONDS = 60
_LOOK_SECONDS = 0.2
_ROWS_SHOWN = 5
_CELLS_SHOWN = 110

_BODY: dict[str, Any] = {
    "chain": CHAIN,
    "desc": "Full products export",
    "target": {"action": "export", "export_index": "products", "export_format": "csv"},
    "trigger": {"once": "2026-05-26T12:00:00Z"},
}


class DemoError(ServiceError):
    """The demo did not come to its end."""

    code = "demo"


@dataclass(frozen=True)
class _Place:
    """The demo's directory and what lies in it."""

    directory: Path

    @property
    def config(self) -> Path:
        return self.directory / "config.toml"

    @property
    def documents(self) -> Path:
        return self.directory / "documents"

    @property
    def log(self) -> Path:
        return self.directory / "service.log"


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(demo)


def demo(
    directory: Annotated[Path, typer.Option(help="Where everything of the demo is kept.")] = Path("var/demo"),
    rows: Annotated[int, typer.Option(min=1, help="Products; the other indices get a twentieth.")] = 100_000,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on; if taken, another.")] = 8080,
    once: Annotated[bool, typer.Option("--once", help="End after the export, with its exit code.")] = False,
) -> None:
    """Make sample data, start the service, carry out one export over HTTP, and leave the service running.

    It has a directory and a configuration of its own and touches no other; it may be repeated.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    pause = Event()
    place = _Place(directory.absolute())
    settings = _prepare(place, rows, _free_port(port))
    token, expires = _token(settings)
    with _service(place) as process:
        partner = Partner(settings.service.public_url, token)
        _wait_until_ready(partner, process, place)
        task_id, file = _export(partner, place)
        _show(file)
        _tell(place, settings, token, expires, task_id)
        if once:
            return
        try:
            say("\nThe service is running. Ctrl-C ends it.")
            # Not a wait without end: a signal that comes just before one does not interrupt it.
            while process.poll() is None:
                pause.wait(_LOOK_SECONDS)
        except KeyboardInterrupt:
            return
    raise DemoError(f"The service ended by itself; its log is {place.log}.")


def _prepare(place: _Place, rows: int, port: int) -> Settings:
    """Make what the service needs: configuration, sample data, tables."""
    from tasks_service.database import schema
    from tasks_service.database.engine import Database

    place.directory.mkdir(parents=True, exist_ok=True)
    place.config.write_text(_config(place.directory, port), encoding="utf-8")
    settings = load_settings(place.config, {})
    _make_sample(place, rows)
    database = Database(settings.database)
    schema.upgrade(database)
    database.dispose()
    return settings


def _config(directory: Path, port: int) -> str:
    tables = {
        "service": {"public_url": f"http://{_HOST}:{port}", "state_directory": str(directory / "state")},
        "web": {"host": _HOST, "port": port},
        "database": {"url": f"sqlite:///{directory / 'tasks.db'}"},
        "files": {"directory": str(directory / "documents")},
        "local": {"directory": str(directory / "exports")},
    }
    lines = ["# Written by `tasks-service demo`, anew each time."]
    for table, values in tables.items():
        lines += ["", f"[{table}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    return "\n".join(lines) + "\n"


def _make_sample(place: _Place, rows: int) -> None:
    from tasks_service.sample import INDICES, write_files

    made = place.documents / f".sample-{rows}"
    if made.exists():
        say(f"Sample data: {place.documents} (from last time).")
        return
    say(f"Sample data: making {rows:,} products and the other indices in {place.documents} ...")
    started = time.monotonic()
    for old in place.documents.glob(".sample-*"):
        old.unlink()
    write_files(place.documents, {index: rows if index == "products" else max(1, rows // 20) for index in INDICES})
    made.touch()
    say(f"             done in {time.monotonic() - started:.1f} s.")


def _token(settings: Settings) -> tuple[str, str | None]:
    """Return a new token of the demo's client, and until when it is valid."""
    from tasks_service.database import clients
    from tasks_service.database.engine import Database

    database = Database(settings.database)
    with database.write() as session:
        now = database.now(session)
        client = clients.find_client(session, "demo") or clients.create_client(
            session, now=now, name="demo", chain=CHAIN, scopes=clients.SCOPES[:2]
        )
        token, text = clients.create_token(session, now=now, client=client, lifetime=timedelta(days=_TOKEN_DAYS))
    database.dispose()
    return text, moment(token.expires_at)


@contextmanager
def _service(place: _Place) -> Generator[subprocess.Popen[bytes]]:
    """Run `serve` as a child; at the end drain it. Should we be killed, it ends with us."""
    with place.log.open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 -- our own command line
            [sys.executable, "-m", "tasks_service", "--config", str(place.config), "serve", "--supervised"],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env={name: value for name, value in os.environ.items() if not name.startswith("TASKS_")},
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            say("Ending the service ...")
            process.terminate()
        try:
            process.wait(_DRAIN_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdin is not None:
            process.stdin.close()


def _wait_until_ready(partner: Partner, process: subprocess.Popen[bytes], place: _Place) -> None:
    deadline = time.monotonic() + _UP_SECONDS
    pause = Event()
    while not partner.ready():
        if process.poll() is not None or time.monotonic() > deadline:
            tail = "\n".join(place.log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
            raise DemoError(f"The service did not come up; the end of {place.log}:\n{tail}")
        pause.wait(0.1)


def _export(partner: Partner, place: _Place) -> tuple[int, Downloaded]:
    task = partner.create(_BODY)
    task_id = int(task["id"])
    say(f"Export:      POST /tasks -> task {task_id}")
    ended = partner.follow(task_id, _progress_line(), timeout_seconds=_EXPORT_SECONDS)
    if ended["state"]["code"] != "DONE":
        raise DemoError(f"Task {task_id} ended in {ended['state']['code']}: {ended['state']['reason']}.")
    file = partner.download(task_id, place.directory)
    say(f"Downloaded:  {file.path} ({file.bytes:,} bytes, {file.rows:,} rows; the SHA-256 is as announced)")
    return task_id, file


def _progress_line() -> Any:  # noqa: ANN401 -- a closure over what was last shown
    """Return a teller of progress: one line that changes on a terminal, a line a change elsewhere."""
    shown = ""

    def tell(progress: Progress) -> None:
        nonlocal shown
        share = f" of {progress.total:,} ({progress.rows / progress.total:.0%})" if progress.total else ""
        line = f"             {progress.state:<10} {progress.rows:,} rows{share}"
        if line == shown:
            return
        shown = line
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{line:<78}" + ("\n" if progress.state in {"DONE", "ERROR"} else ""))
            sys.stderr.flush()
        else:
            say(line)

    return tell


def _show(file: Downloaded) -> None:
    write(f"\nThe first rows of {file.path.name}:\n")
    with file.path.open(encoding="utf-8", newline="") as lines:
        for row in islice(csv.reader(lines), _ROWS_SHOWN + 1):
            text = " | ".join(cell.replace("\n", "\\n") for cell in row)
            write(f"  {text if len(text) <= _CELLS_SHOWN else text[:_CELLS_SHOWN] + ' ...'}")


def _tell(place: _Place, settings: Settings, token: str, expires: str | None, task_id: int) -> None:
    url = settings.service.public_url
    body = json.dumps({**_BODY, "trigger": {"cron": "0 2 * * *", "timezone": "Europe/Amsterdam"}})
    write(f"""
Where everything is:
  API            {url}   (to read: {url}/docs, for machines: {url}/openapi.json)
  directory      {place.directory}
  documents      {settings.files.directory}
  exports        {settings.local.directory}
  database       {place.directory / "tasks.db"}
  log            {place.log}
  configuration  {place.config}   (use it: {_python()} -m tasks_service --config {place.config} tasks list)
  token          {token}   (chain {CHAIN}, valid until {expires})

Try:
  TOKEN='{token}'
  curl {url}/tasks/{task_id} -H "Authorization: Bearer $TOKEN"
  curl {url}/tasks/{task_id}/download_url -H "Authorization: Bearer $TOKEN"
  curl -X POST {url}/tasks -H 'Content-Type: application/json' -H "Authorization: Bearer $TOKEN" -d '{body}'""")


def _python() -> str:
    """Return this interpreter as somebody in the working directory types it."""
    here = Path(sys.executable)
    return str(here.relative_to(Path.cwd())) if here.is_relative_to(Path.cwd()) else str(here)


def _free_port(wanted: int) -> int:
    """Return the wanted port, or another where somebody listens on it."""
    for port in (wanted, 0):
        with closing(socket.socket()) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((_HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise DemoError(f"No port is free on {_HOST}.")
