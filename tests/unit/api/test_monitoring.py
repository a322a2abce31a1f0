"""/metrics: who may ask, how the database stands, and every answer counted by the template of its route."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks_service import __version__, metrics
from tasks_service.errors import DatabaseUnavailableError
from tasks_service.scrape import answer
from tests import measured
from tests.unit.api.conftest import Api, World, check_problem, standing

SCRAPER = "s" * 40


def scraped(world: World, token: str | None) -> Any:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    answer = world.app.test_client().get("/metrics", headers=headers)
    if answer.status_code != 200:
        check_problem(answer)
    return answer


def test_metrics_are_for_operators_who_may_read(world: World, partner: Api, operator: Api) -> None:
    assert [scraped(world, token).status_code for token in (None, "tok_x:y", SCRAPER)] == [401, 401, 401]
    assert scraped(world, partner.token).status_code == 403
    assert scraped(world, world.caller(None, ("tasks:write",)).token).status_code == 403
    assert scraped(world, operator.token).status_code == 200
    assert scraped(world, world.caller(None, ("tasks:read",)).token).status_code == 200


def test_a_scraper_has_a_token_that_needs_no_database(
    tmp_path: Path, migrated: Path, contract: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with standing(tmp_path, migrated, contract, metrics={"token": SCRAPER}) as world:
        assert scraped(world, SCRAPER).status_code == 200
        assert [scraped(world, token).status_code for token in (None, SCRAPER[1:], SCRAPER + "s", "\xe9")] == [401] * 4

        def away(*_: object) -> None:
            raise DatabaseUnavailableError

        monkeypatch.setattr(world.services.database, "now", away)
        counted = measured.said(scraped(world, SCRAPER).text)
        assert counted.of(metrics.DATABASE_UP) == 0
        assert counted.of(metrics.NEXT_DUE) == 0
        assert scraped(world, "tok_x:y").status_code == 503


def test_metrics_may_be_opened(tmp_path: Path, migrated: Path, contract: Any) -> None:
    with standing(tmp_path, migrated, contract, metrics={"access": "open"}) as world:
        assert scraped(world, None).status_code == 200


def test_metrics_say_how_the_database_stands_and_name_so_many_chains(world: World, operator: Api) -> None:
    for number in range(metrics.CHAINS_SHOWN + 3):
        caller = world.caller(5000 + number)
        for _ in range(2 if number == 7 else 1):
            caller.create(chain=5000 + number, trigger={"once": "2020-01-01T00:00:00Z"})
    world.caller(5000).create(chain=5000)  # far ahead
    operator.forward(seconds=30)
    assert operator.claim().chain == 5000
    counted = measured.said(scraped(world, operator.token).text)
    queued = {key: value for key, value in counted.samples.items() if key[0] == metrics.RUNS_QUEUED.name}
    assert len(queued) == metrics.CHAINS_SHOWN  # one of those shown runs instead, and one line is the others'
    assert counted.of(metrics.RUNS_QUEUED, chain="5007") == 2
    assert counted.of(metrics.RUNS_QUEUED, chain="other") == 3
    assert counted.of(metrics.RUNS_RUNNING, chain="5000") == 1
    assert 30 <= counted.of(metrics.OLDEST_QUEUED, chain="5007") < 60
    assert counted.of(metrics.OLDEST_QUEUED, chain="other") >= 30
    assert counted.of(metrics.NEXT_DUE) > 10**9
    assert counted.of(metrics.DATABASE_UP) == 1
    assert counted.total(metrics.BUILD_INFO, version=__version__) == 1


def test_answers_are_counted_by_the_template_of_their_route(world: World, partner: Api, operator: Api) -> None:
    task = partner.create()
    with measured.moving() as moved:
        partner.get(f"/tasks/{task['id']}")
        partner.get("/tasks/999999")
        partner.get("/nothing/1")
        partner.request("PUT", "/tasks")
        read = {"method": "GET", "route": "/tasks/{task_id}"}
        assert moved.of(metrics.HTTP_REQUESTS, **read, status="200") == 1
        assert moved.of(metrics.HTTP_REQUESTS, **read, status="404") == 1
        assert moved.of(metrics.HTTP_SECONDS, "_count", **read) == 2
        assert moved.of(metrics.HTTP_REQUESTS, method="none", route="none", status="404") == 1
        assert moved.of(metrics.HTTP_REQUESTS, method="none", route="none", status="405") == 1


def test_beside_a_scheduler_or_worker_only_the_scrapers_token_counts(
    tmp_path: Path, migrated: Path, contract: Any
) -> None:
    with standing(tmp_path, migrated, contract, metrics={"token": SCRAPER}) as world:
        database, settings = world.services.database, world.services.settings.metrics
        operator = f"Bearer {world.caller(None, ('tasks:read',)).token}"
        refused = [answer(database, settings, given).status for given in (None, operator, f"Basic {SCRAPER}")]
        assert refused == [401] * 3
        answered = answer(database, settings, f"Bearer {SCRAPER}")
        assert answered.status == 200
        assert measured.said(answered.body.decode()).of(metrics.DATABASE_UP) == 1
