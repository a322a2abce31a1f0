"""GET /processes: an operator sees who works; nobody else does."""

from __future__ import annotations

from datetime import timedelta

from tasks_service.database import processes
from tasks_service.database.processes import Identity
from tests.unit.api.conftest import Api, World


def test_an_operator_sees_who_is_there_and_who_is_late(world: World, operator: Api) -> None:
    with world.services.database.write() as session:
        now = world.services.database.now(session)
        gone = Identity("a:1", "worker", "a", 1, "1.0")
        processes.seen(session, gone, now=now - timedelta(minutes=1), state="working", run_id=12)
        processes.seen(session, Identity("b:2", "web", "b", 2, "1.0"), now=now, state="idle")
        processes.seen(session, Identity("b:3", "worker", "b", 3, "1.0"), now=now, state="helping", run_id=12)
    answer = operator.get("/processes")
    assert answer.status_code == 200
    shown = [(row["name"], row["kind"], row["state"], row["run"], row["late"]) for row in answer.get_json()["results"]]
    assert shown == [
        ("b:3", "worker", "helping", 12, False),
        ("b:2", "web", "idle", None, False),
        ("a:1", "worker", "working", 12, True),
    ]


def test_a_chain_s_client_does_not(partner: Api) -> None:
    assert partner.get("/processes").status_code == 403
