"""The product as its users meet it: real processes in a directory of their own, a command line, and HTTP."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import urllib3

from tasks_service.config import DatabaseSettings
from tasks_service.database import clients, schema
from tasks_service.database.engine import Database
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Answer:
    """One HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Api:
    """The HTTP API with one token."""

    url: str
    token: str
    http: urllib3.PoolManager = field(default_factory=lambda: urllib3.PoolManager(retries=False, timeout=60))

    def request(self, method: str, path: str, json_body: Any = None, **headers: str) -> Answer:
        sent = {"Authorization": f"Bearer {self.token}"} | {k.replace("_", "-"): v for k, v in headers.items()}
        answer = self.http.request(
            method, self.url + path, headers=sent, **({} if json_body is None else {"json": json_body})
        )
        return Answer(answer.status, answer.headers, answer.data)

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        answer = self.request("POST", "/tasks", body)
        assert answer.status == 201, answer.body
        return answer.json

    def task(self, task_id: int) -> dict[str, Any]:
        answer = self.request("GET", f"/tasks/{task_id}")
        assert answer.status == 200, answer.body
        return answer.json

    def finished(self, task_id: int, *, timeout: float = 120) -> dict[str, Any]:
        """Poll as a partner does until the task is DONE or ERROR."""

        def ended() -> dict[str, Any] | None:
            task = self.task(task_id)
            return task if task["state"]["code"] in {"DONE", "ERROR"} else None

        task = eventually(ended, timeout=timeout, every=0.1, what=f"task {task_id} ends")
        assert task is not None
        return task

    def download(self, task_id: int, what: str = "download_url") -> tuple[dict[str, Any], Answer]:
        """Ask for the link, follow it without any credentials, and check what came against what was said."""
        answer = self.request("GET", f"/tasks/{task_id}/{what}")
        assert answer.status == 200, answer.body
        link = answer.json
        file = self.http.request("GET", link["url"])
        assert file.status == 200, file.data[:500]
        assert len(file.data) == link["bytes"]
        assert hashlib.sha256(file.data).hexdigest() == link["sha256"]
        return link, Answer(file.status, file.headers, file.data)


class Service:
    """One installation: its directory, its environment, its processes.

    Several may share a directory and a database, as hosts of one installation; `inside` starts the command lines of
    one that runs elsewhere.
    """

    def __init__(self, directory: Path, environment: Mapping[str, str], inside: Sequence[str] = ()) -> None:
        self.directory = directory
        self.inside = inside
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = directory / "service.log"
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("TASKS_")},
            "PYTHONPATH": str(ROOT),
            "TASKS_SERVICE__STATE_DIRECTORY": str(directory / "state"),
            "TASKS_SERVICE__PUBLIC_URL": self.url,
            "TASKS_SERVICE__LOG_FORMAT": "json",
            "TASKS_WEB__PORT": str(self.port),
            "TASKS_DATABASE__URL": f"sqlite:///{directory}/tasks.db",
            "TASKS_FILES__DIRECTORY": str(directory / "documents"),
            "TASKS_LOCAL__DIRECTORY": str(directory / "exports"),
            **environment,
        }
        self.processes: list[subprocess.Popen[bytes]] = []

    def command(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.inside, sys.executable, "-m", "tasks_service", *arguments],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=check,
        )

    def migrate(self) -> None:
        """Bring the database to this version's schema, as `db upgrade` does."""
        if self.inside:
            self.command("db", "upgrade")
            return
        with self._database() as database:
            schema.upgrade(database)

    def api(self, chain: int | None) -> Api:
        """Make a client of the chain (None: an operator) and a token, and return the API with it."""
        name = f"client-{chain}-{os.urandom(3).hex()}"
        if self.inside:
            self.command("clients", "create", name, *(["--operator"] if chain is None else ["--chain", str(chain)]))
            return Api(self.url, self.command("tokens", "create", "--client", name).stdout.strip())
        with self._database() as database, database.write() as session:
            now = database.now(session)
            scopes = clients.SCOPES if chain is None else clients.SCOPES[:2]
            client = clients.create_client(session, now=now, name=name, chain=chain, scopes=scopes)
            _, token = clients.create_token(session, now=now, client=client, lifetime=None)
        return Api(self.url, token)

    @contextmanager
    def _database(self) -> Iterator[Database]:
        # Here, and not by the command line: starting Python a few times for each test is a minute of the suite's.
        database = Database(DatabaseSettings.model_validate({"url": self.environment["TASKS_DATABASE__URL"]}))
        try:
            yield database
        finally:
            database.dispose()

    def start(self, *arguments: str, module: str = "tasks_service", **environment: str) -> subprocess.Popen[bytes]:
        """Start a process of the service; another module is one that starts the command line itself."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [*self.inside, sys.executable, "-m", module, *arguments],
                cwd=self.directory,
                env=self.environment | environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def ready(self) -> None:
        http = urllib3.PoolManager(retries=False, timeout=5)

        def answers() -> bool:
            try:
                return http.request("GET", self.url + "/readyz").status == 200
            except urllib3.exceptions.HTTPError:
                return False

        eventually(answers, timeout=60, what="the service is ready")

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield the structured lines logged so far; none where no process was ever started."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        for line in text.splitlines():
            try:
                found = json.loads(line)
            except ValueError:
                continue
            if isinstance(found, dict):
                yield found

    def stop(self) -> None:
        """End every process that was started, politely and then not."""
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(timeout=10)


@contextmanager
def running(service: Service) -> Iterator[Service]:
    """Upgrade the database, start `serve`, and end everything afterwards."""
    service.migrate()
    service.start("serve")
    try:
        service.ready()
        yield service
    finally:
        service.stop()
