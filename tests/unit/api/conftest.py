"""The API in-process: a real database on SQLite, real document files, a real local storage, and Flask's test client."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from jsonschema import Draft202012Validator
from sqlalchemy import text
from werkzeug.test import TestResponse

from tasks_service import api
from tasks_service.api import openapi
from tasks_service.api.backfill_routes import BACKFILL_ROUTES
from tasks_service.api.explanations import ROUTES as EXPLANATION_ROUTES
from tasks_service.api.indices import ROUTES as INDEX_ROUTES
from tasks_service.api.occurrences import ROUTES as OCCURRENCE_ROUTES
from tasks_service.api.processes import ROUTES as PROCESS_ROUTES
from tasks_service.api.saved_segments_routes import SAVED_SEGMENT_ROUTES
from tasks_service.api.segments import ROUTES as SEGMENT_ROUTES
from tasks_service.api.task_routes import TASK_ROUTES
from tasks_service.app import Services, build
from tasks_service.artifacts import StoredFile, object_document
from tasks_service.artifacts.writing import Committed, stored_object
from tasks_service.config import DatabaseSettings, Settings
from tasks_service.database import claims, clients, schema
from tasks_service.database.engine import Database
from tasks_service.filenames import numbered

CHAIN = 1764
OTHER_CHAIN = 2001
PRODUCTS = [
    {
        "chain_id": CHAIN,
        "id": 1,
        "name": "Lamp",
        "category": "Electronics",
        "price": 12.5,
        "tags": ["a", "b"],
        "created": "2026-05-01T10:00:00Z",
    },
    {"chain_id": CHAIN, "id": 2, "name": "Chair", "category": "Furniture", "price": 80.0, "tags": []},
    {"chain_id": CHAIN, "id": 3, "name": "Radio", "category": "Electronics", "price": 40.0, "tags": ["c"]},
    {"chain_id": OTHER_CHAIN, "id": 4, "name": "Canary", "category": "Electronics", "price": 1.0, "tags": ["x"]},
]


def segment(**changes: Any) -> dict[str, Any]:
    rule = {"field_name": "category", "field_type": "keyword", "operator": "is", "value": "Electronics"}
    return {
        "entity": "people", "index": "products", "join": "all", "chain_id": CHAIN, "rules": [rule],
    } | changes  # fmt: skip


def task_body(**changes: Any) -> dict[str, Any]:
    return {
        "chain": CHAIN,
        "desc": "Full products export",
        "target": {"action": "export", "export_index": "products", "export_format": "csv"},
        "trigger": {"once": "2999-05-26T12:00:00Z"},
    } | changes


class Contract:
    """The OpenAPI document, held against every answer a test is given."""

    def __init__(self) -> None:
        routes = (
            *TASK_ROUTES,
            *OCCURRENCE_ROUTES,
            *BACKFILL_ROUTES,
            *INDEX_ROUTES,
            *SAVED_SEGMENT_ROUTES,
            *SEGMENT_ROUTES,
            *EXPLANATION_ROUTES,
            *PROCESS_ROUTES,
        )
        self.document = openapi.document(routes, server="http://exports.test")
        self.validators: dict[str, Draft202012Validator] = {}

    def check(self, answer: TestResponse) -> None:
        request = answer.request
        operation = self._operation(request.method, request.path)
        if answer.status_code >= 400:
            check_problem(answer)
            if operation is not None:
                documented = operation["responses"].get(str(answer.status_code), {"$ref": "/nowhere"})
                documented = self.document["components"]["responses"].get(documented["$ref"].rsplit("/", 1)[1], {})
                assert answer.get_json()["code"] in documented.get("x-codes", {}), (request.path, answer.text)
            return
        if operation is None:
            return
        documented = operation["responses"][str(answer.status_code)]
        schema = documented.get("content", {}).get("application/json", {}).get("schema")
        if not documented.get("content"):
            assert answer.data == b""
        elif schema is None:
            assert answer.content_type.startswith("text/html")
        elif "$ref" in schema:
            self._validator(schema["$ref"].rsplit("/", 1)[1]).validate(answer.get_json())
        for header in documented.get("headers", ()):
            assert header in answer.headers, (request.path, header)

    def _operation(self, method: str, path: str) -> dict[str, Any] | None:
        for template, methods in self.document["paths"].items():
            if re.fullmatch(
                re.sub(r"\{(task_id|run_id|backfill_id|segment_id|version)\}", r"[1-9][0-9]*", template).replace(
                    "{name}", "[^/]+"
                ),
                path,
            ):
                return methods.get(method.lower())
        return None

    def _validator(self, name: str) -> Draft202012Validator:
        if name not in self.validators:
            schema = {"$ref": f"#/components/schemas/{name}", "components": self.document["components"]}
            self.validators[name] = Draft202012Validator(schema)
        return self.validators[name]


def check_problem(answer: TestResponse) -> dict[str, Any]:
    """Hold an error against RFC 9457 and the contract, and return it."""
    assert answer.content_type == "application/problem+json"
    found = answer.get_json()
    assert found["status"] == answer.status_code
    assert found["instance"] == answer.headers["X-Request-Id"]
    for member in ("type", "title", "detail", "code"):
        assert isinstance(found[member], str), found
        assert found[member], found
    for fault in found.get("errors", []):
        assert fault.keys() in ({"pointer", "code", "detail"}, {"parameter", "code", "detail"}), fault
        assert fault["detail"], fault
    assert "Traceback" not in answer.text
    assert "sqlite" not in answer.text.lower()
    return found


def pointers(answer: TestResponse) -> dict[str, str]:
    """The faults of a 422 as {pointer: code}."""
    assert answer.status_code == 422, answer.text
    return {fault["pointer"]: fault["code"] for fault in answer.get_json()["errors"]}


@dataclass
class Api:
    """A caller with one token."""

    client: FlaskClient
    token: str
    services: Services
    contract: Contract

    def request(self, method: str, path: str, json_body: Any = None, **headers: str) -> TestResponse:
        sent = {"Authorization": f"Bearer {self.token}"} | {k.replace("_", "-"): v for k, v in headers.items()}
        extra = {} if json_body is None else {"data": json.dumps(json_body), "content_type": "application/json"}
        answer = self.client.open(path, method=method, headers=sent, **extra)
        self.contract.check(answer)
        return answer

    def get(self, path: str, **headers: str) -> TestResponse:
        return self.request("GET", path, **headers)

    def post(self, path: str, json_body: Any = None, **headers: str) -> TestResponse:
        return self.request("POST", path, json_body, **headers)

    def create(self, **changes: Any) -> dict[str, Any]:
        answer = self.post("/tasks", task_body(**changes))
        assert answer.status_code == 201, answer.text
        return answer.get_json()

    def task(self, task_id: int) -> dict[str, Any]:
        answer = self.get(f"/tasks/{task_id}")
        assert answer.status_code == 200, answer.text
        return answer.get_json()

    # What a worker would do, as far as the database shows it.

    def claim(self) -> claims.Claim:
        with self.services.database.write() as session:
            claim = claims.claim_run(
                session,
                clock=self.services.database.now,
                owner="worker",
                lease_seconds=60,
                running_per_chain=100,
                max_claims=20,
            )
        assert claim is not None
        return claim

    def publish(self, claim: claims.Claim, content: bytes | None = b"id,name\r\n1,Lamp\r\n") -> None:
        if content is None:
            self._publish(claim, None)
        else:
            file = self.store(claim, f"Product_Export-{claim.task_id}.csv", "text/csv; charset=utf-8", content)
            manifest = self.store(claim, f"{file.name}.manifest.json", "application/json", b"{}")
            self._publish(claim, object_document(file) | {"rows": 1}, manifest)

    def publish_pushed(self, claim: claims.Claim, file: StoredFile, pushed: dict[str, Any]) -> None:
        """Publish a file that was pushed to a destination too."""
        manifest = self.store(claim, f"{file.name}.manifest.json", "application/json", b"{}")
        self._publish(claim, object_document(file) | {"rows": 1, "destination": pushed}, manifest)

    def publish_split(self, claim: claims.Claim, contents: list[bytes]) -> None:
        name = f"Product_Export-{claim.task_id}.csv"
        files = [
            self.store(claim, numbered(name, number), "text/csv; charset=utf-8", content)
            for number, content in enumerate(contents, start=1)
        ]
        documents = [object_document(file) | {"rows": 1} for file in files]
        whole = {"file_name": name, "bytes": sum(map(len, contents)), "split": {"rows": 1}, "files": documents}
        manifest = self.store(claim, f"{name}.manifest.json", "application/json", b"{}")
        self._publish(claim, whole | {"rows": len(files)}, manifest)

    def _publish(self, claim: claims.Claim, whole: dict[str, Any] | None, manifest: StoredFile | None = None) -> None:
        artifact = None
        if whole is not None and manifest is not None:
            artifact = whole | {
                "bucket": manifest.stored.bucket, "format": "csv", "compression": "none", "suspicious_cells": 0,
                "snapshot_at": "2026-05-26T12:00:00.123456Z", "manifest": object_document(manifest),
            }  # fmt: skip
        with self.services.database.write() as session:
            now = self.services.database.now(session)
            expires = now + timedelta(days=30)
            assert claims.publish(session, claim, now=now, artifact=artifact, expires_at=expires, query={"query": 1})

    def store(self, claim: claims.Claim, name: str, content_type: str, content: bytes) -> StoredFile:
        folder = f"exports/{claim.chain}/{claim.task_id}/{claim.run_id}/1-{claim.lease_token}"
        with stored_object(Committed(self.services.storage), folder, name, content_type) as opened:
            opened.write(content)
            return opened.commit()

    def fail(self, claim: claims.Claim) -> None:
        with self.services.database.write() as session:
            now = self.services.database.now(session)
            assert claims.fail(session, claim, now=now, code="source_refused", detail="No.", retry_at=None)

    def forward(self, **amount: float) -> None:
        """Let time pass on the one clock that counts."""
        self.services.database.clock_offset += timedelta(**amount)

    def now(self) -> datetime:
        with self.services.database.read() as session:
            return self.services.database.now(session)


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database of the current schema, made once and copied by each test."""
    path = tmp_path_factory.mktemp("database") / "tasks.db"
    database = Database(DatabaseSettings.model_validate({"url": f"sqlite:///{path}"}))
    schema.upgrade(database)
    with database.write() as session:
        session.execute(text("SELECT 1"))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.dispose()
    return path


@pytest.fixture(scope="session")
def contract() -> Contract:
    return Contract()


@dataclass
class World:
    """One installation in a directory of its own: its services, its application, and how to get callers.

    `waits` is what happens during each wait of `execute`, one after the other; then time just passes.
    """

    services: Services
    app: Flask
    contract: Contract
    waits: list[Callable[[], None]]

    def caller(self, chain: int | None = CHAIN, scopes: tuple[str, ...] = ("tasks:read", "tasks:write")) -> Api:
        """Make a client of a chain (None: an operator) with a token of its own."""
        database = self.services.database
        with database.write() as session:
            now = database.now(session)
            name = f"client {len(clients.list_clients(session, removed=True))}"
            client = clients.create_client(session, now=now, name=name, chain=chain, scopes=scopes)
            _, token = clients.create_token(session, now=now, client=client)
        return Api(self.app.test_client(), token, self.services, self.contract)


@contextmanager
def standing(directory: Path, migrated: Path, contract: Contract, **sections: dict[str, Any]) -> Iterator[World]:
    """Put up an installation, with these settings beside its own."""
    folder = directory / "documents" / "products"
    folder.mkdir(parents=True)
    (folder / "products.jsonl").write_text("".join(json.dumps(one) + "\n" for one in PRODUCTS))
    shutil.copy(migrated, directory / "tasks.db")
    own = {
        "service": {"public_url": "http://exports.test", "state_directory": directory / "state"},
        "database": {"url": f"sqlite:///{directory}/tasks.db"},
        "files": {"directory": directory / "documents"},
        "local": {"directory": directory / "exports"},
    }
    services = build(Settings.model_validate(own | sections))
    waits: list[Callable[[], None]] = []

    def pause(seconds: float) -> None:
        if waits:
            waits.pop(0)()

    app = Flask("tasks_service", static_folder=None)
    api.register(app, services, pause=pause)
    yield World(services, app, contract, waits)
    services.close()


@pytest.fixture
def world(tmp_path: Path, migrated: Path, contract: Contract) -> Iterator[World]:
    with standing(tmp_path, migrated, contract) as found:
        yield found


@pytest.fixture
def partner(world: World) -> Api:
    return world.caller()


@pytest.fixture
def stranger(world: World) -> Api:
    return world.caller(OTHER_CHAIN)


@pytest.fixture
def operator(world: World) -> Api:
    return world.caller(None, ("tasks:read", "tasks:write", "admin"))
