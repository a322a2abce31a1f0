"""What the attempt of a divided run and the workers that help it may rely on, the same on SQLite and on PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from threading import Barrier
from typing import Any

import pytest
from sqlmodel import Session

from tasks_service.beats import BEATS, hold_part
from tasks_service.database import claims, parts, runs
from tasks_service.database.claims import Claim
from tasks_service.database.models import Event, Run
from tasks_service.database.part_models import Part, Plan
from tasks_service.database.parts import PartClaim, PlanDraft, TakenPart
from tests.databases import MINUTE, NOW, Stage

LATER = NOW + timedelta(seconds=61)
FILE: dict[str, Any] = {"documents": 10, "bytes": 100}


def divide(stage: Stage, claim: Claim, count: int = 3, *, folder: str = "parts-a", at: datetime = NOW) -> int:
    shares = [({"slices": [number]}, 10) for number in range(count)]
    draft = PlanDraft("v1", {"pit": "x"}, 10 * count, folder, shares)
    plan = stage.write(lambda session: parts.make_plan(session, claim, now=at, draft=draft))
    assert isinstance(plan, int)
    return plan


def started(stage: Stage, count: int = 3) -> tuple[Claim, int]:
    stage.run(stage.task(7))
    claim = stage.claimed(owner="coordinator")
    return claim, divide(stage, claim, count)


def help_out(
    stage: Stage, at: datetime = NOW, owner: str = "helper", without: tuple[int, ...] = ()
) -> PartClaim | None:
    return stage.write(lambda s: parts.claim_part(s, now=at, owner=owner, lease_seconds=60, without=without))


def helped(stage: Stage, at: datetime = NOW, owner: str = "helper") -> PartClaim:
    claim = help_out(stage, at, owner)
    assert claim is not None
    return claim


def own(stage: Stage, claim: Claim, plan: int, at: datetime = NOW) -> TakenPart | None:
    return stage.write(lambda session: parts.take_own(session, claim, now=at, plan_id=plan))


def finish(stage: Stage, part: TakenPart, at: datetime = NOW) -> bool:
    return stage.write(lambda session: parts.finish_part(session, part, now=at, file=FILE))


def beat(stage: Stage, claim: PartClaim, at: datetime, rows: int = 0) -> bool:
    return stage.write(
        lambda s: parts.beat_part(s, claim.part, now=at, lease_seconds=60, rows=rows, total=None, bytes_written=rows)
    ).owned


def states(stage: Stage) -> list[str]:
    return [part.state for part in stage.all(Part)]


def test_parts_are_dealt_in_order_to_the_attempt_and_to_whoever_helps(stage: Stage) -> None:
    claim, plan = started(stage)
    first, second, third = own(stage, claim, plan), helped(stage), own(stage, claim, plan)
    assert first is not None
    assert third is not None
    assert [first.number, second.part.number, third.number] == [0, 1, 2]
    assert (first.parts, first.share, first.run_token) == (3, {"slices": [0]}, claim.lease_token)
    assert (second.handle, second.fingerprint, second.folder) == ({"pit": "x"}, "v1", "parts-a")
    assert (second.run.run_id, second.run.chain, second.run.definition) == (claim.run_id, 7, claim.definition)
    assert help_out(stage) is None
    assert own(stage, claim, plan) is None
    assert [finish(stage, part) for part in (first, second.part, third)] == [True] * 3
    assert states(stage) == ["done"] * 3
    assert [part.file for part in stage.all(Part)] == [FILE] * 3


def test_a_plan_is_made_by_the_holder_of_the_run_and_once(stage: Stage) -> None:
    claim, plan = started(stage)
    assert divide(stage, claim) == plan, "a commit whose answer was lost is repeated"
    assert len(stage.all(Part)) == 3
    stage.claimed(LATER, owner="another")
    draft = PlanDraft("v1", {}, 1, "parts-b", [({}, 1)])
    assert stage.write(lambda s: parts.make_plan(s, claim, now=LATER, draft=draft)) is None
    assert stage.write(lambda s: parts.end_plan(s, claim, now=LATER, plan_id=plan, reason="stale")) is False
    assert len(stage.all(Plan)) == 1


def test_a_part_is_renewed_by_no_more_than_crosses_a_pipe(stage: Stage) -> None:
    started(stage, 1)
    fields = json.loads(json.dumps(hold_part(helped(stage)).fields))
    renewed = stage.write(
        lambda s: BEATS["part"](s, fields, now=NOW, lease_seconds=120, rows=3, total=None, bytes_written=9)
    )
    assert renewed.owned
    [part] = stage.all(Part)
    assert (part.lease_until, part.rows, part.bytes_written) == (NOW + timedelta(seconds=120), 3, 9)


def test_a_lapsed_part_is_taken_over_and_its_worker_writes_nothing_more(stage: Stage) -> None:
    started(stage, 1)
    slow = helped(stage, owner="slow")
    assert help_out(stage, NOW + timedelta(seconds=59)) is None
    assert beat(stage, slow, NOW + timedelta(seconds=30), rows=4)
    assert help_out(stage, LATER) is None, "the beat renewed it"
    late = NOW + timedelta(seconds=91)
    quick = helped(stage, late, owner="quick")
    assert not beat(stage, slow, late)
    assert not finish(stage, slow.part, late)
    assert not stage.write(lambda s: parts.release_part(s, slow.part))
    assert finish(stage, quick.part, late)
    assert finish(stage, quick.part, late), "a commit whose answer was lost is repeated"
    assert not finish(stage, slow.part, late)


def test_a_part_given_back_is_anybodys_but_one_that_ends_its_workers_is_left_to_its_run(stage: Stage) -> None:
    claim, plan = started(stage, 1)
    first = helped(stage)
    assert stage.write(lambda s: parts.release_part(s, first.part))
    assert states(stage) == ["waiting"]
    helped(stage)
    assert help_out(stage, LATER) is None, "it was tried twice"
    assert own(stage, claim, plan, LATER) is not None


def test_a_plan_this_worker_cannot_write_is_passed_by(stage: Stage) -> None:
    _, plan = started(stage)
    assert help_out(stage, without=(plan,)) is None
    assert help_out(stage, without=(plan + 1,)) is not None


def test_the_next_attempt_goes_on_with_the_plan_and_takes_what_the_former_worked_on_itself(stage: Stage) -> None:
    claim, plan = started(stage)
    done = own(stage, claim, plan)
    assert done is not None
    assert finish(stage, done)
    left = own(stage, claim, plan)
    assert left is not None
    helper = helped(stage)
    assert help_out(stage, NOW + timedelta(seconds=30)) is None
    assert beat(stage, helper, NOW + timedelta(seconds=50))
    again = stage.claimed(LATER, owner="next")
    found = stage.write(lambda s: parts.open_plan(s, again.run_id).id)
    assert found == plan
    taken = own(stage, again, plan, LATER)
    assert taken is not None
    assert (taken.number, taken.run_token) == (left.number, again.lease_token)
    assert not finish(stage, left, LATER), "the attempt that was taken over writes nothing more"
    assert own(stage, again, plan, LATER) is None, "the helper's lease holds whoever coordinates"
    assert finish(stage, helper.part, LATER)
    assert finish(stage, taken, LATER)


ENDS: dict[str, Callable[[Session, Claim, int], Any]] = {
    "the plan is given up": lambda s, c, plan: parts.end_plan(s, c, now=NOW, plan_id=plan, reason="because"),
    "the run failed": lambda s, c, _: claims.fail(s, c, now=NOW, code="x", detail="y", retry_at=None),
    "the run was cancelled": lambda s, c, _: claims.cancelled(s, c, now=NOW),
    "the run is to be cancelled": lambda s, c, _: runs.request_cancel(s, s.get_one(Run, c.run_id), now=NOW),
}


@pytest.mark.parametrize("end", ENDS)
def test_nobody_takes_or_writes_parts_that_nobody_needs(stage: Stage, end: str) -> None:
    claim, plan = started(stage)
    helper, mine = helped(stage), own(stage, claim, plan)
    assert mine is not None
    assert stage.write(lambda session: ENDS[end](session, claim, plan))
    assert help_out(stage) is None
    assert not beat(stage, helper, NOW)
    assert not finish(stage, helper.part)
    # The run's own attempt hears of a cancellation by its own beat.
    assert finish(stage, mine) == (end == "the run is to be cancelled")


def test_a_run_that_is_tried_again_keeps_what_its_helpers_have_in_hand(stage: Stage) -> None:
    claim, plan = started(stage)
    helper = helped(stage)
    assert stage.fail(claim, retry_at=NOW + MINUTE)
    assert help_out(stage) is None, "no new part is begun while nobody coordinates"
    assert beat(stage, helper, NOW)
    assert finish(stage, helper.part)
    again = stage.claimed(NOW + MINUTE)
    assert [part.state for part in stage.write(lambda s: parts.parts_of(s, plan))] == ["done", "waiting", "waiting"]
    assert own(stage, again, plan) is not None


def test_starting_over_is_told_and_counted(stage: Stage) -> None:
    claim, plan = started(stage)
    assert stage.write(lambda s: parts.end_plan(s, claim, now=NOW, plan_id=plan, reason="The snapshot is gone."))
    assert stage.read_run(claim.run_id).started_over == 1
    told = {event.event: event.message for event in stage.all(Event)}
    assert told["run.started_over"] == "The snapshot is gone."
    assert told["run.divided"] == "30 documents in 3 parts, for any worker to take."
    assert divide(stage, claim, folder="parts-b") != plan


def test_plans_are_swept_once_nobody_needs_them(stage: Stage) -> None:
    claim, plan = started(stage)

    def sweepable(at: datetime, settled: float = 0) -> list[int | None]:
        found = stage.write(lambda s: parts.sweepable_plans(s, now=at, limit=9, settled_seconds=settled))
        return [one.id for one in found]

    assert sweepable(LATER) == []
    stage.publish(claim, NOW)
    assert sweepable(NOW) == [plan]
    assert sweepable(LATER, settled=62) == []
    assert sweepable(LATER, settled=60) == [plan]
    stage.write(lambda s: parts.mark_plan_swept(s, plan, now=LATER))
    assert sweepable(LATER) == []


def test_many_workers_at_once_take_every_part_once(stage: Stage) -> None:
    claim, plan = started(stage, 12)
    start = Barrier(4)

    def work(number: int) -> list[int]:
        start.wait(60)
        found: list[int] = []
        while True:
            taken = own(stage, claim, plan) if number == 0 else help_out(stage, owner=f"helper {number}")
            part = taken.part if isinstance(taken, PartClaim) else taken
            if part is None:
                if all(state == "done" for state in states(stage)):
                    return found
                continue
            assert finish(stage, part)
            found.append(part.number)

    with ThreadPoolExecutor(4) as pool:
        taken = [number for found in pool.map(work, range(4)) for number in found]
    assert sorted(taken) == list(range(12))
