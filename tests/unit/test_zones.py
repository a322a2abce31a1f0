"""Time zone data: one source for the process, told by its release, and occurrences that follow its changes."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tasks_service import zones
from tasks_service.schedule import moved, occurrences
from tests.zone_files import HOUR, compiled, host, write

MIDNIGHT = datetime(2026, 1, 5, tzinfo=UTC)
TOWN = "Test/Town"


def at(hours: float) -> datetime:
    return MIDNIGHT + timedelta(hours=hours)


def zone(hours: float, *changes: tuple[datetime, float]) -> ZoneInfo:
    return zones.Rules(TOWN, "", compiled(hours, *changes)).zone


def test_the_zones_a_test_compiles_are_what_they_are_said_to_be() -> None:
    made = zone(1, (at(10), 2.5), (at(20), -3))
    shown = [at(hours).astimezone(made).utcoffset() for hours in (0, 9.99, 10, 19.99, 20, 9000)]
    assert shown == [HOUR, HOUR, 2.5 * HOUR, 2.5 * HOUR, -3 * HOUR, -3 * HOUR]


def test_rules_are_read_from_the_host_and_told_by_their_release(tmp_path: Path) -> None:
    amsterdam = zones.rules_of("Europe/Amsterdam")
    assert amsterdam is not None
    with host(write(tmp_path, "2031b", {TOWN: compiled(1), "Europe/Amsterdam": compiled(7)})):
        town, moved_away = zones.rules_of(TOWN), zones.rules_of("Europe/Amsterdam")
        assert town is not None
        assert moved_away is not None
        assert (town.release, zones.release(), zones.source()) == ("2031b", "2031b", str(tmp_path))
        assert MIDNIGHT.astimezone(moved_away.zone).utcoffset() == 7 * HOUR
        assert MIDNIGHT.astimezone(amsterdam.zone).utcoffset() == HOUR
        assert len({town.fingerprint, moved_away.fingerprint, amsterdam.fingerprint}) == 3
        london = zones.rules_of("Europe/London")
        assert london is not None
        assert london.release != "2031b"
    assert zones.rules_of(TOWN) is None


def test_data_that_was_replaced_is_read_anew_when_asked(tmp_path: Path) -> None:
    with host(write(tmp_path, "", {TOWN: compiled(1)})):
        before = zones.rules_of(TOWN)
        write(tmp_path, "2031a", {TOWN: compiled(2)})
        assert zones.rules_of(TOWN) == before
        zones.forget()
        after = zones.rules_of(TOWN)
        assert before is not None
        assert after is not None
        assert (before.release, after.release) == ("", "2031a")
        assert MIDNIGHT.astimezone(after.zone).utcoffset() == 2 * HOUR


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../zone", "Europe/../../secret", "Europe", "Gone/Zone"])
def test_what_is_no_zone_has_no_rules(name: str, tmp_path: Path) -> None:
    (tmp_path.parent / "zone").write_bytes(compiled(1))
    with host(tmp_path):
        assert zones.rules_of(name) is None


def test_releases_are_ordered_and_one_that_is_not_told_is_the_oldest() -> None:
    releases = ["", "2025b", "2026a", "2026z", "2026aa", "2027a"]
    assert sorted({*releases}, key=zones.age) == releases


@pytest.mark.parametrize(("path", "source"), [(None, "the tzdata package"), ("given", "given")])
def test_a_command_reads_the_package_unless_it_is_told_another_place(
    path: str | None, source: str, tmp_path: Path
) -> None:
    folder = write(tmp_path / "given", "2031b", {TOWN: compiled(1)})
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONTZPATH"}
    told = environment if path is None else environment | {"PYTHONTZPATH": str(folder)}
    code = "from tasks_service import cli, zones; cli.run(['--version']); print(zones.source(), zones.release())"
    done = subprocess.run([sys.executable, "-c", code], env=told, capture_output=True, text=True, check=True)
    assert source in done.stdout
    assert done.stdout.strip().endswith("2031b") == (path is not None)


DAILY = {"cron": "0 2 * * *", "timezone": TOWN}


def follow(trigger: dict[str, str], old: ZoneInfo, new: ZoneInfo, *, now: datetime, ran: set[datetime]) -> datetime:
    """What is next by the new rules for a task whose occurrences until now ran by the old ones."""
    due = next(occurrences(trigger["cron"], old, after=max(ran, default=now - timedelta(days=1))))
    found = moved(
        trigger, due=due, now=now, old=old, new=new, decided=lambda since: [(one, one) for one in ran if one >= since]
    )
    assert found is not None
    return found


def test_an_earlier_clock_and_a_later_one_move_what_is_next() -> None:
    """Yesterday ran at 02:00 of a clock one hour ahead; from this evening on the clock is another."""
    ran, now = {at(1)}, at(10)
    assert follow(DAILY, zone(1), zone(1, (at(20), 2)), now=now, ran=ran) == at(24)
    assert follow(DAILY, zone(1), zone(1, (at(20), 0)), now=now, ran=ran) == at(26)
    assert follow(DAILY, zone(1), zone(1, (at(60), 0)), now=now, ran=ran) == at(25)


def test_a_day_that_ran_by_the_old_rules_does_not_run_again_by_the_new() -> None:
    """It ran at what was 02:00, and is said to have been 01:00 only now: 02:00 is still to come, but not for it."""
    assert follow(DAILY, zone(1), zone(0), now=at(1.5), ran={at(1)}) == at(26)


def test_a_time_that_passed_unnoticed_is_late_and_not_lost() -> None:
    assert follow(DAILY, zone(1), zone(2), now=at(24.5), ran={at(1)}) == at(24)


def test_a_moment_that_ran_by_another_name_has_its_outcome() -> None:
    twice, close = DAILY | {"cron": "0 2,3 * * *"}, DAILY | {"cron": "0,30 2 * * *"}
    assert follow(twice, zone(1), zone(2), now=at(1.2), ran={at(1)}) == at(24)
    assert follow(close, zone(1), zone(2), now=at(1.2), ran={at(1)}) == at(0.5)


def test_a_line_of_every_so_often_goes_on_with_what_matches_from_now_on() -> None:
    often = DAILY | {"cron": "0 */6 * * *"}
    assert follow(often, zone(0), zone(1), now=at(4), ran={at(0)}) == at(5)
    assert follow(often, zone(0), zone(-1), now=at(0.5), ran={at(0)}) == at(1)
    assert follow(often, zone(0), zone(1), now=at(5.5), ran={at(0)}) == at(11)


def test_what_was_overdue_by_the_old_rules_and_is_ahead_by_the_new_is_not_due() -> None:
    assert follow(DAILY, zone(1), zone(0), now=at(25.5), ran={at(1)}) == at(26)


def test_the_ends_of_a_trigger_are_instants_and_stay() -> None:
    old, new, none = zone(1), zone(2), lambda _: ()
    until = DAILY | {"end_at": "2026-01-06T00:30:00Z"}
    assert moved(until, due=at(1), now=at(0), old=zone(0), new=old, decided=none) == at(1)
    assert moved(until, due=at(24), now=at(10), old=new, new=old, decided=none) is None
    since = DAILY | {"start_at": "2026-01-06T00:30:00Z"}
    assert moved(since, due=at(25), now=at(10), old=old, new=new, decided=none) == at(48)


@given(
    line=st.sampled_from(["0 2 * * *", "30 0 * * *", "0 23 * * *", "15 12 * * *", "0 6 * * 1-5", "0 0,12 * * *"]),
    before=st.integers(-12, 14),
    shift=st.sampled_from([-3, -2, -1, -0.5, 0.5, 1, 2, 3]),
    known=st.integers(0, 96),
    holds=st.integers(0, 96),
    back=st.booleans(),
)
@example(line="0 2 * * *", before=1, shift=1, known=25, holds=20, back=False)
@example(line="0 2 * * *", before=1, shift=-1, known=26, holds=20, back=False)
def test_every_local_day_runs_once_whenever_the_change_is_known(
    line: str, before: int, shift: float, known: int, holds: int, *, back: bool
) -> None:
    """The clock changes at `holds` hours, which is known from `known` on: before it, or after it."""
    start, end = at(-48), at(240)
    old, new = zone(before), zone(before, (at(holds), before + shift))
    if back:  # a change that was announced, and is called off
        old, new = new, old
    ran = [(one, old) for one in occurrences(line, old, after=start, end_at=at(known))]
    done = {one for one, _ in ran}
    trigger, now = {"cron": line, "timezone": TOWN}, at(known)
    due = next(occurrences(line, old, after=max(done, default=start)))
    first = moved(
        trigger, due=due, now=now, old=old, new=new, decided=lambda since: [(one, one) for one in done if one >= since]
    )
    assert first is not None
    ran += [(one, new) for one in (first, *occurrences(line, new, after=first, end_at=end))]
    instants = [one for one, _ in ran]
    assert instants == sorted(set(instants))
    named = [wall_time(one, where, line) for one, where in ran]
    assert len(set(named)) == len(named)
    # From the first that ran to the last, no time of the line is left out.
    wanted = {wall_time(one, old, line) for one in done}
    since = min(done, default=first) - timedelta(seconds=1)
    wanted |= {wall_time(one, new, line) for one in occurrences(line, new, after=since, end_at=end)}
    assert {one for one in wanted if one >= min(named)} == set(named)


def wall_time(instant: datetime, where: ZoneInfo, line: str) -> datetime:
    """The latest time of the line that the clock had shown then: the one it ran for, also at the end of a gap."""
    shown = instant.astimezone(where).replace(tzinfo=None)
    minute, *hours = (int(number) for number in line.replace(",", " ").split(" *")[0].split())
    times = [shown.replace(hour=hour, minute=minute) - timedelta(days=days) for hour in hours for days in (0, 1)]
    return max(time for time in times if time <= shown)
