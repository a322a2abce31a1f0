"""The small server beside a scheduler or a worker, asked over HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import urllib3

from tasks_service.config import VitalsSettings
from tasks_service.errors import ConfigurationError
from tasks_service.loops import Loops
from tasks_service.vitals import Answer, VitalsServer
from tests.acceptance.service import free_port


def serving(port: int, loops: Loops) -> VitalsServer:
    return VitalsServer(VitalsSettings.model_validate({"port": port}), loops)


@pytest.fixture
def loops() -> Loops:
    return Loops()


@pytest.fixture
def server(loops: Loops) -> Iterator[VitalsServer]:
    made = serving(free_port(), loops)
    made.start()
    yield made
    made.stop()


def ask(server: VitalsServer, path: str, method: str = "GET") -> urllib3.BaseHTTPResponse:
    return urllib3.request(method, f"http://127.0.0.1:{server.port}{path}", retries=False, timeout=30)


def test_it_tells_the_loops_and_what_is_registered(server: VitalsServer, loops: Loops) -> None:
    server.register("/metrics", lambda _: Answer(200, "text/plain; version=0.0.4", b"runs_total 1\n"))
    assert ask(server, "/healthz").json() == {"status": "ok", "checks": []}
    loops.ask("worker", lambda: False)
    assert ask(server, "/healthz").status == 503
    answer = ask(server, "/metrics?name[]=x")
    assert (answer.data, answer.headers["Content-Type"]) == (b"runs_total 1\n", "text/plain; version=0.0.4")
    assert "Python" not in answer.headers["Server"]


def test_what_it_does_not_know_is_refused(server: VitalsServer) -> None:
    assert ask(server, "/tasks").status == 404
    assert ask(server, "/healthz", "POST").status == 501


def test_a_handler_that_fails_tells_nothing_of_why(server: VitalsServer) -> None:
    def broken(_: str | None) -> Answer:
        raise RuntimeError("s3cret")

    server.register("/metrics", broken)
    answer = ask(server, "/metrics")
    assert answer.status == 500
    assert b"s3cret" not in answer.data


def test_port_0_is_no_server(loops: Loops) -> None:
    server = serving(0, loops)
    server.start()
    assert server.port is None
    server.stop()


def test_a_port_that_is_taken_is_refused_with_what_to_set(server: VitalsServer, loops: Loops) -> None:
    assert server.port is not None
    with pytest.raises(ConfigurationError, match=f"port {server.port} .*vitals.port"):
        serving(server.port, loops).start()
