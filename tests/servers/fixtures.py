"""The pytest fixtures of the real servers, and the two rules around them.

A server whose parts cannot be had skips the tests that ask for it, with the reason; under ``CI=true`` it
fails them. Only tests that live where servers are expected may open sockets, and only to loopback.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.servers import keeper, postgresql
from tests.servers import s3 as s3_server
from tests.servers.gcs import Gcs, serving
from tests.servers.parts import UnavailableError, under_ci
from tests.servers.s3 import S3

SERVERS = {
    "elasticsearch_url": "tests.servers.elasticsearch:SERVER_8",
    "elasticsearch9_url": "tests.servers.elasticsearch:SERVER_9",
    "postgresql_database": "tests.servers.postgresql:SERVER",
    "gcs_front": "tests.servers.gcs:SERVER",
    "s3_front": "tests.servers.s3:SERVER",
}
SOCKET_FOLDERS = {"contract", "integration", "acceptance", "chaos"}
MAYBE_FOLDERS = {"property", "docs", "servers"}  # sockets only for tests that ask for a server

_leading = ExitStack()


def pytest_configure(config: pytest.Config) -> None:
    """The process that leads the run makes the directory the servers of the run live in."""
    if not hasattr(config, "workerinput"):
        _leading.enter_context(keeper.leading())


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the servers and wait until they are gone (in a worker this does nothing)."""
    _leading.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Close the network to every test that has no business on it; to the others leave loopback."""
    for item in items:
        if item.get_closest_marker("enable_socket") or item.get_closest_marker("disable_socket"):
            continue
        if _may_open_sockets(item):
            item.add_marker(pytest.mark.allow_hosts(["127.0.0.1", "::1"]))
        else:
            item.add_marker(pytest.mark.disable_socket)


def _may_open_sockets(item: pytest.Item) -> bool:
    folder = item.path.relative_to(keeper.ROOT / "tests").parts[0]
    asks = bool(SERVERS.keys() & set(getattr(item, "fixturenames", ())))
    return folder in SOCKET_FOLDERS or (folder in MAYBE_FOLDERS and asks)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start the servers the chosen tests ask for now, so that they boot while other tests run."""
    if session.config.option.collectonly:
        return
    wanted = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    for name in sorted(SERVERS.keys() & wanted):
        keeper.begin(SERVERS[name])


def _attach(fixture: str) -> dict[str, Any]:
    try:
        return keeper.attach(SERVERS[fixture])
    except UnavailableError as error:
        if under_ci():
            pytest.fail(f"{fixture}: {error}")
        pytest.skip(f"{fixture}: {error}")


@pytest.fixture(scope="session")
def elasticsearch_url() -> str:
    """A real Elasticsearch 8.19, shared by the whole run: use index names of your own."""
    return str(_attach("elasticsearch_url")["url"])


@pytest.fixture(scope="session")
def elasticsearch9_url() -> str:
    """A real Elasticsearch 9.1, likewise shared."""
    return str(_attach("elasticsearch9_url")["url"])


@pytest.fixture(scope="session")
def postgresql_database() -> Callable[[], str]:
    """A factory: each call makes a new, empty PostgreSQL database and returns its SQLAlchemy URL."""
    port = int(_attach("postgresql_database")["port"])
    return lambda: postgresql.create_database(port, f"tasks_{uuid.uuid4().hex}")


@pytest.fixture
def postgresql_url(postgresql_database: Callable[[], str]) -> Iterator[str]:
    """A new, empty PostgreSQL database for one test."""
    return postgresql_database()


@pytest.fixture(scope="session")
def gcs_front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gcs]:
    """The storage for fixtures of wider scope; who uses it clears its faults and its clock."""
    from google.auth.credentials import CredentialsWithRegionalAccessBoundary

    upstream = str(_attach("gcs_front")["upstream"])
    # google-auth asks Google itself, in a thread, where an account may be used; no setting stops it.
    lookup = "_is_regional_access_boundary_lookup_required"
    with pytest.MonkeyPatch.context() as patch, serving(upstream, tmp_path_factory.mktemp("gcs")) as front:
        patch.setattr(CredentialsWithRegionalAccessBoundary, lookup, lambda _: False)
        yield front


@pytest.fixture
def gcs(gcs_front: Gcs) -> Iterator[Gcs]:
    """A Google Cloud Storage that really checks; no faults, and the real time, at the start of a test."""
    yield gcs_front
    gcs_front.faults.clear()
    gcs_front.clock.reset()
    assert not gcs_front.defects


@pytest.fixture(scope="session")
def s3_front() -> Iterator[S3]:
    """The S3 for fixtures of wider scope; who uses it clears its faults."""
    with s3_server.serving(str(_attach("s3_front")["upstream"])) as front:
        yield front


@pytest.fixture
def s3(s3_front: S3) -> Iterator[S3]:
    """An S3 that really checks; no faults at the start of a test."""
    yield s3_front
    s3_front.faults.clear()
    assert not s3_front.defects
