"""A node of a real cluster is killed in the middle of an export: the whole file, or an error of its name and no file.

Two nodes; an index whose shards lie on both, with copies and without. The point-in-time of a run holds what the killed
node read from, so the attempt ends; with copies the next one reads the whole from the node that is left, without them
none ends well before the node is back.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import urllib.error
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select

from tasks_service.database.models import Attempt
from tests.acceptance.service import Api, Service, running
from tests.databases import connect
from tests.integration.test_elasticsearch_faults import ask
from tests.servers.elasticsearch import SERVER_8, Elasticsearch, url_of
from tests.servers.elasticsearch_front import Exchange, fronted
from tests.servers.parts import UnavailableError
from tests.servers.processes import end
from tests.waiting import eventually

pytestmark = [pytest.mark.enable_socket, pytest.mark.timeout(400)]

CHAIN = 1
ROWS, SHARDS = 8000, 4
EXPECTED = [row for row in range(ROWS) if row % 5 < 4]  # the chain's
NODE = Elasticsearch(version=SERVER_8.version, javas=SERVER_8.javas, heap="384m")
FIRST = """\
node.name: one
cluster.initial_master_nodes: [one]
"""
SECOND = """\
node.name: two
node.roles: [data]
discovery.seed_hosts: ["{first}"]
"""
LOST = {"snapshot_lost", "source_unavailable"}
"""What an attempt may say whose node is gone."""


@dataclass
class Cluster:
    """Two nodes: the first is its master and stays, the second holds its share of the shards and is killed."""

    directory: Path
    home: Path
    url: str
    first: str
    second: subprocess.Popen[bytes] | None = None

    def start_second(self) -> None:
        directory = self.directory / "two"
        directory.mkdir(exist_ok=True)
        self.second, _ = NODE.boot(directory, self.home, SECOND.format(first=self.first))

    def kill_second(self) -> None:
        assert self.second is not None
        os.killpg(self.second.pid, signal.SIGKILL)
        end(self.second)  # which is gone

    def settled(self, index: str, status: str) -> bool:
        """Whether every shard (yellow) and every copy (green) of the index is there."""
        try:
            return not ask(self.url, "GET", f"/_cluster/health/{index}?wait_for_status={status}&timeout=5s")[
                "timed_out"
            ]
        except urllib.error.HTTPError as error:  # it says by 408 that it is not
            if error.code != 408:
                raise
            return False

    def fill(self, index: str, copies: int) -> None:
        """An index whose shards lie on both nodes, which both go."""
        if self.second is None or self.second.poll() is not None:
            self.start_second()
        settings = {"number_of_shards": SHARDS, "number_of_replicas": copies}
        fields = {"id": {"type": "long"}, "chain_id": {"type": "integer"}, "name": {"type": "keyword"}}
        ask(
            self.url,
            "PUT",
            f"/{index}",
            json.dumps({"settings": settings, "mappings": {"properties": fields}}).encode(),
        )
        eventually(lambda: self.settled(index, "green"), timeout=60, what="the index is whole")
        lines = [
            f'{{"index":{{}}}}\n{{"id":{row},"chain_id":{1 + row % 5 // 4},"name":"{"x" * 100}"}}\n'
            for row in range(ROWS)
        ]
        body = "".join(lines).encode()
        assert not ask(self.url, "POST", f"/{index}/_bulk?refresh=true", body)["errors"]
        shards = ask(self.url, "GET", f"/_cat/shards/{index}?format=json")
        assert {one["node"] for one in shards} == {"one", "two"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    try:
        NODE.prepare()
    except UnavailableError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    with ExitStack() as cleanup:
        directory = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="tasks-service-nodes-")))
        directory.chmod(0o755)  # the nodes run under another user
        (directory / "one").mkdir()
        home = NODE.unpack(directory)
        process, ports = NODE.boot(directory / "one", home, FIRST)
        cleanup.callback(end, process)
        [first] = [line for line in (ports.parent / "transport.ports").read_text().splitlines() if line[:4] == "127."]
        made = Cluster(directory, home, url_of(ports), first)
        cleanup.callback(lambda: made.second and end(made.second))
        yield made


@dataclass
class Exporting:
    """A service over the cluster whose second node dies when the first pages of an export have been read."""

    service: Service
    api: Api
    url: str
    killed: list[str] = field(default_factory=list)

    def attempts(self) -> list[Attempt]:
        database = connect(self.url)
        try:
            with database.read() as session:
                return list(session.exec(select(Attempt).order_by("id")).all())
        finally:
            database.dispose()

    def export(self) -> int:
        target = {"action": "export", "export_index": "products", "export_format": "jsonl"}
        task = self.api.create({"chain": CHAIN, "target": target, "trigger": {"once": "2020-01-01T00:00:00Z"}})
        return int(task["id"])

    def assert_whole(self, task_id: int) -> None:
        task: dict[str, Any] = self.api.finished(task_id, timeout=120)
        assert task["state"]["code"] == "DONE", task
        _, file = self.api.download(task_id)
        assert sorted(json.loads(line)["id"] for line in file.body.splitlines()) == EXPECTED
        assert [one.outcome for one in self.attempts()][-1] == "published"
        assert {one.code for one in self.attempts()[:-1]} <= LOST


@pytest.fixture(
    params=[0, 1],
    ids=["no copies", "a copy"],
)
def exporting(request: pytest.FixtureRequest, cluster: Cluster, tmp_path: Path) -> Iterator[Exporting]:
    index = f"products-{request.param}"
    cluster.fill(index, request.param)
    killed: list[str] = []

    def kill(exchange: Exchange) -> None:
        if exchange.is_page and not killed:
            cluster.kill_second()
            killed.append(exchange.path)

    with fronted(cluster.url) as front:
        front.fault = kill
        environment = {
            "TASKS_SOURCE__KIND": "elasticsearch",
            "TASKS_ELASTICSEARCH__URLS": json.dumps([front.url]),
            "TASKS_ELASTICSEARCH__PAGE_BYTES": str(64 * 1024),
            "TASKS_INDICES": json.dumps({"products": {"file_prefix": "Product", "source": index}}),
            "TASKS_WORKER__RETRY_BASE_SECONDS": "0.5",
            "TASKS_WORKER__RETRY_CAP_SECONDS": "1",
            "TASKS_WORKER__MAX_ATTEMPTS": "1000",
        }
        with running(Service(tmp_path, environment)) as service:
            yield Exporting(service, service.api(CHAIN), service.environment["TASKS_DATABASE__URL"], killed)


def test_an_export_whose_node_is_killed_is_whole_or_not_there(
    exporting: Exporting, cluster: Cluster, request: pytest.FixtureRequest
) -> None:
    task_id = exporting.export()
    eventually(lambda: exporting.killed, timeout=60, what="the node is killed in mid-read")
    if "no copies" in request.node.name:
        eventually(lambda: len(exporting.attempts()) > 1, timeout=60, what="another attempt is made without the node")
        first = exporting.attempts()[0]
        assert (first.outcome, first.code in LOST) == ("retried", True)
        assert exporting.api.request("GET", f"/tasks/{task_id}/download_url").status in {404, 409}
        assert not list((exporting.service.directory / "exports").rglob("*.jsonl"))
        cluster.start_second()
    exporting.assert_whole(task_id)
    if "a copy" in request.node.name:
        assert len(exporting.attempts()) > 1
