"""Who is next: random arrivals, claims, endings and dead workers, against a model of the rule in plain Python."""

from __future__ import annotations

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest
from sqlalchemy import text
from sqlmodel import Session

from tasks_service.database import claims
from tasks_service.database.claims import Claim
from tasks_service.database.engine import Database
from tests.databases import NOW, Stage
from tests.waiting import eventually

CAP = 3
LEASE = timedelta(seconds=60)


@dataclass
class Known:
    """What the model knows of a run."""

    run_id: int
    task: int
    chain: int
    serial: bool
    available_at: datetime
    lease_until: datetime | None = None


def fairest(runs: list[Known], turns: dict[int, datetime], now: datetime) -> int | None:
    """The rule, said again: fewest running first, then longest passed over; caps and serial tasks wait."""
    running = Counter(run.chain for run in runs if run.lease_until is not None)
    busy = {run.task for run in runs if run.lease_until is not None}
    candidates = [
        (
            running[run.chain] - (run.lease_until is not None),
            max(run.available_at, turns.get(run.chain, run.available_at)),
            run.available_at,
            run.run_id,
        )
        for run in runs
        if (run.lease_until is not None and run.lease_until <= now)
        or (
            run.lease_until is None
            and run.available_at <= now
            and running[run.chain] < CAP
            and not (run.serial and run.task in busy)
        )
    ]
    return min(candidates)[-1] if candidates else None


@pytest.mark.parametrize("seed", range(3))
def test_the_claimed_run_is_always_the_models_fairest(stage: Stage, seed: int) -> None:
    chance = random.Random(seed)
    tasks = [
        (stage.task(chain, overlap=policy), chain, policy) for chain in range(1, 6) for policy in ("skip", "allow")
    ]
    known: list[Known] = []
    claims: dict[int, Claim] = {}
    turns: dict[int, datetime] = {}
    now = NOW
    for _ in range(120):
        now += timedelta(seconds=chance.choice([0, 1, 5, 20]))
        move = chance.choice(["arrive", "arrive", "claim", "claim", "claim", "end"])
        if move == "arrive":
            # One chain asks for far more than the others.
            task, chain, policy = tasks[0 if chance.random() < 0.3 else chance.randrange(len(tasks))]
            available_at = now + timedelta(seconds=chance.choice([0, 0, 0, 30]))
            run_id = stage.run(task, kind="manual", at=now, available_at=available_at)
            known.append(Known(run_id, task.id or 0, chain, policy != "allow", available_at))
        elif move == "claim":
            expected = fairest(known, turns, now)
            claim = stage.claim(now, cap=CAP, ceiling=10_000)
            assert (claim.run_id if claim else None) == expected
            if claim is not None:
                claims[claim.run_id] = claim
                turns[claim.chain] = now
                next(run for run in known if run.run_id == expected).lease_until = now + LEASE
        elif claims:
            run_id = chance.choice(sorted(claims))
            assert stage.publish(claims.pop(run_id), now)
            known = [run for run in known if run.run_id != run_id]
    assert len(known) > 5


def end(stage: Stage, claim: Claim, ending: str, now: datetime) -> None:
    """What becomes of a claimed run."""
    if ending == "publish":
        assert stage.publish(claim, now)
    elif ending == "retry":  # it is available again at once
        assert stage.fail(claim, now, retry_at=now)
    else:
        stage.lapse(claim, now)


@pytest.mark.parametrize("workers", [1, 4, 9])
@pytest.mark.parametrize("ending", ["publish", "retry", "die"])
def test_a_chain_with_nothing_going_waits_for_one_claim_of_each_other_that_waits(
    stage: Stage, workers: int, ending: str
) -> None:
    """However few the workers, however long the queues, and whatever becomes of what was claimed."""
    chance = random.Random(workers)
    tasks = {chain: stage.task(chain, overlap="allow") for chain in range(1, 5)}
    for number in range(8):
        for chain in range(1, 4):
            stage.run(tasks[chain], kind="manual", at=NOW + timedelta(milliseconds=number))
    now = NOW + timedelta(seconds=1)
    going = [stage.claimed(now, cap=10) for _ in range(workers)]
    for _ in range(2):
        stage.run(tasks[4], kind="manual", at=now)
        before = Counter[int]()
        while sum(before.values()) < 10:
            now += timedelta(seconds=1)
            end(stage, going.pop(chance.randrange(len(going))), ending, now)
            going.append(stage.claimed(now, cap=10, ceiling=10_000))
            if going[-1].chain == 4:
                break
            before[going[-1].chain] += 1
        assert max(before.values(), default=0) <= 1, before
        assert going[-1].chain == 4
        assert stage.publish(going.pop(), now)
        going.append(stage.claimed(now, cap=10, ceiling=10_000))


def test_an_attempt_begins_after_the_end_that_made_room_for_it(stage: Stage) -> None:
    """A claim that waits for others (here: while the chain's only place becomes free) has the time of its turn."""
    database = stage.database
    ended, waiting = stage.run(stage.task(1)), stage.run(stage.task(1), at=NOW + timedelta(seconds=1))
    stage.run(stage.task(2), at=NOW + timedelta(seconds=1))

    def claim(session: Session) -> Claim:
        made = claims.claim_run(
            session, clock=database.now, owner="w", lease_seconds=60, running_per_chain=1, max_claims=9
        )
        assert made is not None
        return made

    first = stage.write(claim)
    assert first.run_id == ended
    with ThreadPoolExecutor(1) as pool:
        with database.write() as ahead:
            assert claim(ahead).chain == 2
            queue = pool.submit(stage.write, claim)
            eventually(lambda: queue.running() and waits(database), timeout=10, what="the second claim waits")
            assert claims.fail(ahead, first, now=database.now(ahead), code="empty", detail="Because.", retry_at=None)
        assert queue.result(timeout=30).run_id == waiting
    [before], [after] = stage.attempts(ended), stage.attempts(waiting)
    assert before.ended_at is not None
    assert before.ended_at <= after.started_at


def waits(database: Database) -> bool:
    """Whether some claim waits for its turn; SQLite does not tell."""
    if database.dialect == "sqlite":
        return True
    with database.read() as session:
        look = "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database "
        look += "WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted"
        return session.connection().execute(text(look)).scalar_one() > 0
