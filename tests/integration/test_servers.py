"""The real servers the other tests stand on are there, real, and as promised."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.servers import keeper


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 -- loopback
        return json.load(answer)


def _version(url: str) -> str:
    (node,) = _get(f"{url}/_nodes")["nodes"].values()
    return str(node["version"])


def test_the_first_elasticsearch_is_an_8_19(elasticsearch_url: str) -> None:
    assert _version(elasticsearch_url) == "8.19.16"
    assert _get(f"{elasticsearch_url}/_cluster/health")["status"] in {"green", "yellow"}


def test_the_second_elasticsearch_is_a_9(elasticsearch9_url: str) -> None:
    assert _version(elasticsearch9_url) == "9.1.0"


def _connect(url: str) -> psycopg.Connection:
    return psycopg.connect(url.replace("postgresql+psycopg", "postgresql"))


def test_each_postgresql_database_is_new_and_empty(postgresql_database: Callable[[], str], postgresql_url: str) -> None:
    urls = {postgresql_url, postgresql_database(), postgresql_database()}
    assert len(urls) == 3
    for url in urls:
        with _connect(url) as connection:
            connection.execute("CREATE TABLE mine (id int)")


def test_postgresql_does_not_keep_utc_for_us(postgresql_url: str) -> None:
    with _connect(postgresql_url) as connection:
        assert connection.execute("SHOW timezone").fetchone() == ("Asia/Kathmandu",)


def test_a_missing_part_skips_here_and_fails_under_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.servers import fixtures
    from tests.servers.parts import UnavailableError

    def refuse(_: str) -> dict[str, Any]:
        raise UnavailableError("no such program")

    monkeypatch.setattr(keeper, "attach", refuse)
    monkeypatch.setenv("CI", "")
    with pytest.raises(pytest.skip.Exception, match="no such program"):
        fixtures._attach("postgresql_database")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no such program"):
        fixtures._attach("postgresql_database")


@pytest.mark.usefixtures("postgresql_url")
def test_shared_servers_end_with_their_leader() -> None:
    environment = {name: value for name, value in os.environ.items() if name != keeper.RUN_VARIABLE}
    leader = subprocess.Popen(
        [sys.executable, "-m", "tests.servers.shared", "postgresql_database"],
        cwd=keeper.ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert leader.stdout is not None
        run = Path(leader.stdout.readline().strip().partition("=")[2])
        assert (run / "postgresql-SERVER.json").exists()
        leader.terminate()
        assert leader.wait(timeout=keeper.LEAVE_SECONDS / 2) == 0
    finally:
        leader.kill()
        leader.communicate()
    assert not run.exists()
