"""Every process of an installation replaced, one after the other, while tasks fire: nothing is lost or doubled.

It takes half a minute for a reason: each of seven real processes ends in its own time and another takes its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import CHAIN
from tests.acceptance.service import Api, Service
from tests.chaos.fleet import Fleet, Load, write_documents

WEBS = 2


@pytest.fixture
def hosts(tmp_path: Path, postgresql_database: Callable[[], str]) -> Iterator[list[Service]]:
    write_documents(tmp_path)
    environment = {"TASKS_DATABASE__URL": postgresql_database(), "TASKS_EXECUTOR__KIND": "procrastinate"}
    hosts = [Service(tmp_path, environment) for _ in range(WEBS)]
    hosts[0].migrate()
    yield hosts
    for host in hosts:
        host.stop()


def test_a_rolling_restart_under_load_loses_and_doubles_nothing(hosts: list[Service], tmp_path: Path) -> None:
    fleet = Fleet()
    fleet.add(hosts[0], "web", "scheduler", "worker", "worker")
    fleet.add(hosts[1], "web", "scheduler", "worker")
    api = hosts[0].api(CHAIN)
    load = Load(fleet, [api, Api(hosts[1].url, api.token)])
    load.due_one_after_the_other(60, first_in=5, every=0.4)
    with load.posted_meanwhile(every=0.3):
        for member in fleet.members:
            fleet.replace(member)
    assert len(load.expected) > 60
    load.nothing_lost_nothing_doubled(tmp_path / "exports")
