"""What becomes of occurrences: misfire, catch-up, pauses, jitter; every occurrence has exactly one outcome."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks_service.config import SchedulerSettings
from tasks_service.schedule import (
    Limits,
    Plan,
    SkipRange,
    delay,
    first_occurrence,
    next_run_dates,
    occurrences,
    plan,
    resume,
)

NOW = datetime(2026, 1, 5, 10, 0, 30, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
LIMITS = Limits(catch_up=7 * DAY, catch_up_runs=100, grace=MINUTE)


def at(hour: int, minute: int = 0, day: int = 5) -> datetime:
    return datetime(2026, 1, day, hour, minute, tzinfo=UTC)


def cron(line: str, **more: Any) -> dict[str, Any]:
    return {"cron": line, "timezone": "UTC", "start_at": None, "end_at": None, "jitter": 0} | more


def test_one_that_is_on_time_is_run_whatever_the_policy() -> None:
    for policy in ("skip", "run_once", "run_all"):
        made = plan(cron("* * * * *", misfire=policy), due=at(10), now=NOW, limits=LIMITS)
        assert made == Plan((at(10),), (), at(10, 1))


@pytest.mark.parametrize(
    ("policy", "run", "skips"),
    [
        ("skip", (), (SkipRange(at(6), at(9), 4, "misfire"),)),
        ("run_once", (at(9),), (SkipRange(at(6), at(8), 3, "misfire"),)),
        ("run_all", (at(6), at(7), at(8), at(9)), ()),
    ],
)
def test_missed_ones_are_run_as_the_policy_says(policy: str, run: tuple[datetime, ...], skips: object) -> None:
    made = plan(cron("0 * * * *", misfire=policy), due=at(6), now=at(9, 30), limits=LIMITS)
    assert made == Plan(run, skips, at(10))  # type: ignore[arg-type]


def test_one_that_is_on_time_stands_for_the_newest_missed() -> None:
    made = plan(cron("0 * * * *", misfire="run_once"), due=at(7), now=NOW, limits=LIMITS)
    assert made == Plan((at(10),), (SkipRange(at(7), at(9), 3, "misfire"),), at(11))
    made = plan(cron("0 * * * *", misfire="skip"), due=at(7), now=NOW, limits=LIMITS)
    assert made == Plan((at(10),), (SkipRange(at(7), at(9), 3, "misfire"),), at(11))


def test_missed_begins_behind_the_grace() -> None:
    trigger = cron("0 * * * *", misfire="skip")
    assert plan(trigger, due=at(10), now=at(10) + MINUTE, limits=LIMITS).run == (at(10),)
    late = at(10) + MINUTE + timedelta(microseconds=1)
    assert plan(trigger, due=at(10), now=late, limits=LIMITS).run == ()


def test_catching_up_ends_at_the_window_and_at_the_count() -> None:
    limits = Limits(catch_up=3 * HOUR, catch_up_runs=2, grace=MINUTE)
    made = plan(cron("0 * * * *", misfire="run_all"), due=at(2), now=at(9, 30), limits=limits)
    assert made.run == (at(8), at(9))
    assert made.skips == (
        SkipRange(at(2), at(6), 5, "catch_up_window"),
        SkipRange(at(7), at(7), 1, "catch_up_limit"),
    )


def test_a_once_is_run_however_late() -> None:
    once = {"once": "2026-01-01T00:00:00Z", "timezone": "UTC"}
    due = datetime(2026, 1, 1, tzinfo=UTC)
    assert plan(once, due=due, now=NOW + 100 * DAY, limits=LIMITS) == Plan((due,), (), None)


def test_after_the_end_nothing_follows() -> None:
    trigger = cron("0 * * * *", end_at="2026-01-05T10:00:00Z")
    assert plan(trigger, due=at(10), now=NOW, limits=LIMITS) == Plan((at(10),), (), None)


def test_limits_come_from_the_settings() -> None:
    settings = SchedulerSettings.model_validate({"poll_interval_seconds": 45, "catch_up_days": 2, "catch_up_runs": 3})
    assert Limits.of(settings) == Limits(catch_up=2 * DAY, catch_up_runs=3, grace=timedelta(seconds=90))
    assert Limits.of(SchedulerSettings.model_validate({})).grace == MINUTE


LINES = ["* * * * *", "*/7 * * * *", "0 * * * *", "30 2 * * *", "0 0 * * mon"]


@given(
    line=st.sampled_from(LINES),
    policy=st.sampled_from(["skip", "run_once", "run_all"]),
    down=st.integers(0, 4 * 24 * 60),
    runs=st.integers(1, 50),
    window=st.integers(1, 5),
)
@settings(max_examples=60, deadline=None)
def test_every_occurrence_has_one_outcome_however_long_the_downtime(
    line: str, policy: str, down: int, runs: int, window: int
) -> None:
    """Plans are made one after another until nothing is due; together they cover each occurrence once, in order."""
    trigger = cron(line, misfire=policy)
    start, now = datetime(2026, 1, 1, 3, 0, 20, tzinfo=UTC), datetime(2026, 1, 1, 3, 0, 20, tzinfo=UTC) + MINUTE * down
    limits = Limits(catch_up=DAY * window, catch_up_runs=runs, grace=MINUTE)
    due: datetime | None = next(occurrences(line, "UTC", after=start))
    first = due
    run: list[datetime] = []
    skipped: list[SkipRange] = []
    while due is not None and due <= now:
        made = plan(trigger, due=due, now=now, limits=limits)
        run += made.run
        skipped += made.skips
        assert made.next_run_at is not None
        assert made.next_run_at > due
        due = made.next_run_at
    truth: list[datetime] = []
    for instant in occurrences(line, "UTC", after=start):
        if instant > now:
            assert due == (instant if truth else first)
            break
        truth.append(instant)
    covered = run + [one for skip in skipped for one in truth if skip.first <= one <= skip.last]
    assert sorted(covered) == truth
    assert sum(skip.count for skip in skipped) + len(run) == len(truth)
    missed = [one for one in truth if now - one > limits.grace]
    on_time = truth[len(missed) :]
    if policy == "skip":
        assert run == on_time
    elif policy == "run_once":
        assert run == (on_time or missed[-1:])
    else:
        assert run == [one for one in missed if now - one <= limits.catch_up][-runs:] + on_time


def test_one_plan_after_a_year_of_downtime_decides_a_bounded_number() -> None:
    made = plan(cron("* * * * *"), due=NOW - 365 * DAY, now=NOW, limits=LIMITS)
    assert sum(skip.count for skip in made.skips) <= 1000
    assert made.next_run_at is not None
    assert made.next_run_at < NOW


def test_what_a_pause_let_pass_is_not_run() -> None:
    made = resume(cron("0 * * * *", misfire="run_all"), due=at(7), now=at(9, 30))
    assert made == Plan((), (SkipRange(at(7), at(9), 3, "paused"),), at(10))
    assert resume(cron("0 * * * *"), due=at(10), now=at(9, 30)) == Plan((), (), at(10))
    assert resume(cron("0 * * * *"), due=None, now=at(9, 30)) == Plan((), (), None)
    ended = resume(cron("0 * * * *", end_at="2026-01-05T08:00:00Z"), due=at(7), now=at(9))
    assert ended == Plan((), (SkipRange(at(7), at(8), 2, "paused"),), None)


def test_a_once_that_a_pause_let_pass_is_still_due() -> None:
    once = {"once": "2026-01-05T07:00:00Z", "timezone": "UTC"}
    assert resume(once, due=at(7), now=at(9)) == Plan((), (), at(7))


def test_the_first_occurrence_of_a_once() -> None:
    future = {"once": "2026-01-05T11:00:00Z", "timezone": "UTC"}
    assert first_occurrence(future, created_at=NOW) == at(11)
    past = {"once": "2026-01-05T09:00:00Z", "timezone": "UTC"}
    assert first_occurrence(past, created_at=NOW) == NOW


def test_the_first_occurrence_of_a_cron_lies_behind_its_creation() -> None:
    assert first_occurrence(cron("0 10 * * *"), created_at=at(10)) == at(10, day=6)
    assert first_occurrence(cron("0 10 * * *"), created_at=at(10) - timedelta(microseconds=1)) == at(10)
    assert first_occurrence(cron("0 10 * * *", end_at="2026-01-05T10:00:00Z"), created_at=at(10)) is None


def test_both_ends_belong_to_the_range() -> None:
    trigger = cron("0 * * * *", start_at="2026-01-05T12:00:00Z", end_at="2026-01-05T14:00:00Z")
    assert next_run_dates(trigger, after=NOW) == [at(12), at(13), at(14)]
    assert next_run_dates(trigger, after=at(12)) == [at(13), at(14)]


def test_the_next_five() -> None:
    assert next_run_dates(cron("30 2 * * *"), after=NOW) == [at(2, 30, day) for day in range(6, 11)]
    once = {"once": "2026-01-05T11:00:00Z", "timezone": "UTC"}
    assert next_run_dates(once, after=NOW) == [at(11)]
    assert next_run_dates(once, after=at(11)) == []


@given(task=st.integers(1, 10**9), jitter=st.integers(0, 3600), hours=st.integers(0, 10**5))
def test_a_delay_is_within_the_jitter_and_always_the_same(task: int, jitter: int, hours: int) -> None:
    occurrence = at(0) + HOUR * hours
    late = delay(task, occurrence, jitter)
    assert timedelta(0) <= late <= timedelta(seconds=jitter)
    assert late == delay(task, occurrence, jitter)


def test_delays_spread_over_the_jitter() -> None:
    delays = sorted(delay(task, at(2), 1000).total_seconds() for task in range(1000))
    assert delays[50] < 150
    assert delays[-50] > 850
    assert max(later - sooner for sooner, later in pairwise(delays)) < 30
