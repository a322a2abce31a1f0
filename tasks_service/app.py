"""The composition root: settings become services, services become a Flask application.

This module alone knows every adapter. Vendor libraries are imported with the adapter that is chosen, so that a web
process on the embedded default never loads google or elasticsearch. Called by cli/ and by gunicorn's worker.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tasks_service.config import Settings
from tasks_service.database.engine import Database
from tasks_service.destinations.registry import Destinations
from tasks_service.executors import Executor
from tasks_service.sources import Source
from tasks_service.sources.links import Links
from tasks_service.storage import Storage

if TYPE_CHECKING:
    from flask import Flask


@dataclass(frozen=True)
class Services:
    """Everything a process may use; built once per process, after any fork."""

    settings: Settings
    database: Database
    source: Source
    storage: Storage
    executor: Executor
    secret_key: bytes
    destinations: Destinations = field(default_factory=Destinations)

    def close(self) -> None:
        """Release connections; the services are not used afterwards."""
        self.executor.close()
        self.source.close()
        self.storage.close()
        self.destinations.close()
        self.database.dispose()


def build(settings: Settings) -> Services:
    """Build the services that the settings name. Connects to nothing; connections open at first use."""
    secret_key = load_secret_key(settings)
    database = Database(settings.database)
    return Services(
        settings=settings,
        database=database,
        source=_source(settings),
        storage=_storage(settings, secret_key),
        executor=_executor(settings, database),
        secret_key=secret_key,
        destinations=Destinations(settings.destinations),
    )


def create_app(services: Services, *, loops: Callable[[], Mapping[str, bool]] | None = None) -> Flask:
    """Make the WSGI application over the services; `loops` tells which loops of this process are alive."""
    from flask import Flask

    from tasks_service import api

    app = Flask("tasks_service", static_folder=None)
    api.register(app, services, loops=loops)
    return app


def load_secret_key(settings: Settings) -> bytes:
    """Return the key that signs cursors and local links; make and keep one where none is configured."""
    if settings.service.secret_key is not None:
        return settings.service.secret_key.get_secret_value().encode()
    path = settings.service.state_directory / "secret.key"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        _create_key(path)
    return bytes.fromhex(path.read_text().strip())


def _create_key(path: Path) -> None:
    """Create the key file whole or not at all: several processes may start at once, and the first one's key holds."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(32))
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)
    except FileExistsError:
        pass  # another process was first: its key is the key
    finally:
        draft.unlink()


def _executor(settings: Settings, database: Database) -> Executor:
    if settings.executor.kind == "procrastinate":
        from tasks_service.executors.procrastinate import ProcrastinateExecutor

        return ProcrastinateExecutor(database.connection_parameters())
    from tasks_service.executors.table import TableExecutor

    return TableExecutor()


def _source(settings: Settings) -> Source:
    links = Links(settings.indices, settings.limits.linked_documents)
    if settings.source.kind == "elasticsearch":
        from tasks_service.sources.elasticsearch import ElasticsearchSource

        return ElasticsearchSource(settings.elasticsearch, settings.source.catalog_seconds, links=links)
    from tasks_service.sources.files import FilesSource

    return FilesSource(settings.files, settings.source.catalog_seconds, links=links)


def _storage(settings: Settings, secret_key: bytes) -> Storage:
    if settings.storage.kind == "gcs":
        from tasks_service.storage.gcs import GcsStorage

        return GcsStorage(settings.gcs)
    from tasks_service.storage.local import LocalStorage

    return LocalStorage(settings.local, public_url=settings.service.public_url, secret_key=secret_key)
