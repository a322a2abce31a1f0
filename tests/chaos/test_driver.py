"""A seeded slice of the chaos driver, and that its judge is no friend of anybody.

The full run is ``make chaos SEED= KILLS=1000 DATABASE=``; docs/chaos.md has its figures.
"""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.driver import drive
from tests.chaos.inside import IDS
from tests.chaos.judge import Cron, Once, judge
from tests.chaos.ledger import File, Ledger
from tests.databases import MINUTE, NOW, Stage, url_of

SEED = int(os.environ.get("CHAOS_SEED", "20261126"))
KILLS = int(os.environ.get("CHAOS_KILLS", "40"))


@pytest.mark.enable_socket  # processes are forked by a server that is spoken to over a Unix socket
@pytest.mark.timeout(600)
def test_whatever_is_killed_everything_due_has_one_outcome_and_one_file(stage: Stage, tmp_path: Path) -> None:
    outcome = drive(url_of(stage.database), tmp_path, seed=SEED, kills=KILLS, season=timedelta(minutes=4))
    print(f"seed {SEED}, {stage.database.dialect}: {outcome.told()}")  # noqa: T201 -- for the log of CI
    assert outcome.verdict.wrong == []
    assert outcome.verdict.figures["occurrences run"] > 20


ONCE = Once("once", 1, NOW + MINUTE)
CRON = Cron("cron", 1, 2, NOW + MINUTE, NOW + 2 * MINUTE)
CONTENT = b"".join(json.dumps({"id": one}).encode() + b"\n" for one in sorted(IDS[1]))


def run(number: int, task: int, occurrence: Any, **changed: Any) -> dict[str, Any]:
    file = File(f"f{number}", number, CONTENT)
    shown = {"object": file.name, "generation": number, "bytes": len(CONTENT), "sha256": file.sha256}
    row = {
        "id": number,
        "task_id": task,
        "chain": 1,
        "occurrence": occurrence,
        "state": "done",
        "reason": None,
        "detail": None,
        "lease_token": 1,
        "file_deleted_at": None,
        "artifact": shown | {"manifest": {**shown, "object": f"m{number}"}},
    }
    return row | changed


def ledger() -> Ledger:
    """What two tasks leave behind that were carried out as they should be."""
    tasks = [
        {"id": 1, "desc": "once", "created_at": NOW, "trigger": {}},
        {"id": 2, "desc": "cron", "created_at": NOW, "trigger": {"overlap": "skip"}},
    ]
    runs = [run(1, 1, ONCE.due), run(2, 2, CRON.first)]
    attempts = [
        {"id": n, "run_id": n, "lease_token": 1, "outcome": "published", "object_name": f"f{n}"} for n in (1, 2)
    ]
    skip = {"task_id": 2, "first_occurrence": CRON.last, "last_occurrence": CRON.last, "count": 1, "reason": "overlap"}
    files = [File(f"{kind}{number}", number, CONTENT) for kind in "fm" for number in (1, 2)]
    return Ledger(tasks, runs, [skip], attempts, files, [])


def test_the_judge_finds_nothing_wrong_where_nothing_is() -> None:
    verdict = judge(ledger(), [ONCE, CRON], IDS)
    assert verdict.wrong == []
    assert verdict.figures["occurrences run"] == 2


def lost_run(found: Ledger) -> None:
    found.runs.pop()
    found.attempts.pop()
    del found.files[1], found.files[2]


def doubled_run(found: Ledger) -> None:
    found.runs.append(run(3, 1, ONCE.due))
    found.attempts.append({**found.attempts[0], "id": 3, "run_id": 3, "object_name": "f3"})
    found.files.extend(File(f"{kind}3", 3, CONTENT) for kind in "fm")


def shorter_file(found: Ledger) -> None:
    short = File("f1", 1, CONTENT[: CONTENT.rindex(b"{")])
    found.files[0] = short
    found.runs[0]["artifact"] |= {"bytes": len(short.content), "sha256": short.sha256}


HARM: dict[str, tuple[Any, str]] = {
    "a lost run": (lost_run, "without outcome"),
    "a doubled run": (doubled_run, "too many outcomes"),
    "a run that goes on": (lambda found: found.runs[0].update(state="running"), "ended running"),
    "a lost task": (lambda found: found.tasks.pop(0), "is there 0 times"),
    "a doubled task": (lambda found: found.tasks.append(found.tasks[0] | {"id": 9}), "is there 2 times"),
    "a task nobody asked for": (lambda found: found.tasks.append(found.tasks[0] | {"desc": "x"}), "had an answer"),
    "a reason that is none": (lambda found: found.skips[0].update(reason="queue_full"), "left out for queue_full"),
    "a skip of too many": (lambda found: found.skips[0].update(count=2), "covers 1"),
    "two publications": (lambda found: found.attempts.append(found.attempts[0] | {"lease_token": 2}), "published by"),
    "one token twice": (lambda found: found.attempts.append(found.attempts[0]), "claimed twice"),
    "an attempt without end": (lambda found: found.attempts[0].update(outcome=None), "ended None"),
    "a lost file": (lambda found: found.files.pop(0), "is not there"),
    "a lost manifest": (lambda found: found.files.pop(), "is not there"),
    "another file": (lambda found: found.runs[0]["artifact"].update(sha256="0"), "is not what the run says"),
    "a shorter file": (shorter_file, "does not hold chain 1's documents"),
    "an orphan": (lambda found: found.files.append(File("x", 1, b"")), "x is nobody's"),
    "half an upload": (lambda found: found.uploads.append("u"), "was left behind"),
}


@pytest.mark.parametrize("harm", HARM)
def test_the_judge_finds(harm: str) -> None:
    found = ledger()
    do, said = HARM[harm]
    do(found)
    assert any(said in line for line in judge(found, [ONCE, CRON], IDS).wrong)
