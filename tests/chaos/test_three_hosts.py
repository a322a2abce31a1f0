"""The deployment of docs/operations.md, on hosts of its own: a database, web and scheduler, two hosts of workers.

They are network namespaces: each host has its own address and loopback, and a cable that can be pulled. What hosts
share in a real deployment through the object storage, they share here through one directory. Each test takes half a
minute: so long take the start and the end of real processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import CHAIN
from tests.acceptance.service import Service
from tests.chaos.fleet import Fleet, Load, files, write_documents
from tests.servers import postgresql
from tests.servers.hosts import Host, network
from tests.servers.parts import UnavailableError, under_ci
from tests.waiting import eventually

LEASE_SECONDS = 6


@dataclass
class Deployment:
    hosts: dict[str, Host]
    front: Service
    workers: dict[str, Service]
    call: Callable[[Callable[[], Any]], Any]


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    with ExitStack() as stack:
        try:
            hosts = stack.enter_context(network(["database", "front", "workers-1", "workers-2"]))
            url = stack.enter_context(postgresql.on_host(hosts["database"]))
        except UnavailableError as error:
            if under_ci():
                pytest.fail(f"three hosts: {error}")
            pytest.skip(f"three hosts: {error}")
        environment = {
            "TASKS_DATABASE__URL": url,
            "TASKS_EXECUTOR__KIND": "procrastinate",
            "TASKS_WORKER__LEASE_SECONDS": str(LEASE_SECONDS),
            "TASKS_WORKER__HEARTBEAT_SECONDS": "1",
        }
        services = {
            name: Service(tmp_path, environment, host.inside) for name, host in hosts.items() if name != "database"
        }
        for service in services.values():
            stack.callback(service.stop)
        front = services.pop("front")
        front.migrate()
        yield Deployment(hosts, front, services, stack.enter_context(hosts["front"].caller()))


def test_a_rolling_restart_of_three_hosts_loses_and_doubles_nothing(deployment: Deployment, tmp_path: Path) -> None:
    write_documents(tmp_path)
    fleet = Fleet(deployment.call)
    fleet.add(deployment.front, "web", "scheduler")
    for service in deployment.workers.values():
        fleet.add(service, "worker")
    load = Load(fleet, [deployment.front.api(CHAIN)])
    load.due_one_after_the_other(40, first_in=3, every=0.4)
    with load.posted_meanwhile(every=0.5):
        for member in fleet.members:
            fleet.replace(member)
    load.nothing_lost_nothing_doubled(tmp_path / "exports")
    at_work = {line["worker"] for line in deployment.front.events() if line["event"] == "run.started"}
    assert len(at_work) >= 3, "workers of both hosts, old and new"


def test_a_host_whose_cable_is_pulled_publishes_nothing_once_it_is_replaced(
    deployment: Deployment, tmp_path: Path
) -> None:
    rows = 600_000  # seconds of work: the cable is pulled in the midst of it
    write_documents(tmp_path, rows)
    fleet = Fleet(deployment.call)
    fleet.add(deployment.front, "web", "scheduler")
    cut, other = deployment.workers.values()
    fleet.add(cut, "worker")
    load = Load(fleet, [deployment.front.api(CHAIN)])
    task_id = load.create("2026-01-01T00:00:00Z")
    eventually(lambda: load.run(task_id)["state"] == "running", every=0.01, what="the run goes")
    deployment.hosts["workers-1"].unplug()
    fleet.add(other, "worker")
    eventually(lambda: load.run(task_id)["state"] == "done", timeout=60, what="another host took the run over")
    done = load.run(task_id)
    assert [attempt["outcome"] for attempt in done["attempts"]] == ["abandoned", "published"]
    deployment.hosts["workers-1"].plug()
    fleet.add(other, "worker")  # a worker sweeps when it starts, and the lost one cleans up when it learns
    eventually(lambda: len(files(tmp_path / "exports")) == 1, timeout=60, what="the lost attempt's object is gone")
    [file] = files(tmp_path / "exports")
    assert file.read_bytes().count(b"\n") == rows + 1
    assert load.run(task_id) == done
