"""What should have become of every task, by arithmetic alone, held against what a ledger shows.

The oracle knows what was asked for (`Season`, `Once`) and the calendar; it has no line in common with the product.
Outcomes are matched with occurrences one to one, as Jepsen's test of Chronos does. Every sentence that is returned is
something wrong.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.chaos.ledger import File, Ledger

MINUTE = timedelta(minutes=1)
ENDS = {"published", "abandoned", "interrupted", "cancelled", "failed"}
# Reasons for which an occurrence may be left out under its policies; none: every one must have been run.
KINDS: list[tuple[int, dict[str, Any], set[str]]] = [
    (1, {"misfire": "run_all", "overlap": "buffer_all"}, set()),
    (1, {"misfire": "run_all", "overlap": "allow"}, set()),
    (1, {"misfire": "run_once", "overlap": "skip"}, {"misfire", "overlap"}),
    (2, {"misfire": "run_once", "overlap": "buffer_one"}, {"misfire", "overlap"}),
    (3, {"misfire": "skip", "overlap": "allow"}, {"misfire"}),
    (5, {"misfire": "run_all", "overlap": "cancel_other"}, set()),
]


@dataclass(frozen=True)
class Cron:
    """A task of every so many minutes, from the first to the last minute, both included; `key` is its description."""

    key: str
    chain: int
    kind: int
    first: datetime
    last: datetime

    @property
    def every(self) -> int:
        return KINDS[self.kind][0]


@dataclass(frozen=True)
class Once:
    """A task that is due once."""

    key: str
    chain: int
    due: datetime


@dataclass(frozen=True)
class Verdict:
    """What is wrong (nothing, if all is well), and how much was looked at."""

    wrong: list[str]
    figures: dict[str, int]


def judge(ledger: Ledger, asked: list[Cron | Once], documents: dict[int, set[int]]) -> Verdict:
    """Hold what is there against what was asked for; `documents` are the ids that belong to each chain."""
    wrong = [*_tasks(ledger, asked), *ends(ledger), *bucket(ledger, documents)]
    outcomes: Counter[str] = Counter()
    tasks = {task["desc"]: task for task in ledger.tasks}
    for one in asked:
        if one.key in tasks:
            wrong += _outcomes(one, tasks[one.key], ledger, outcomes)
    endings = Counter(f"attempts {attempt['outcome']}" for attempt in ledger.attempts)
    figures = {
        "tasks": len(asked),
        "occurrences": sum(outcomes.values()),
        **{f"occurrences {name}": count for name, count in sorted(outcomes.items())},
        **dict(sorted(endings.items())),
        "files": len(ledger.files),
    }
    return Verdict(wrong, figures)


def _tasks(ledger: Ledger, asked: list[Cron | Once]) -> Iterator[str]:
    found = Counter(task["desc"] for task in ledger.tasks)
    for one in asked:
        if found[one.key] != 1:
            yield f"task {one.key} was answered 201 and is there {found[one.key]} times"
    for key in found.keys() - {one.key for one in asked}:
        yield f"task {key} is there and nobody has had an answer"


def _outcomes(asked: Cron | Once, task: dict[str, Any], ledger: Ledger, outcomes: Counter[str]) -> Iterator[str]:
    """Match the outcomes of one task with its occurrences."""
    created = task["created_at"]  # a moment that is past when its task is made is due at once
    due = [max(asked.due, created)] if isinstance(asked, Once) else _due(asked, created)
    allowed: set[str] = set() if isinstance(asked, Once) else KINDS[asked.kind][2]
    runs = Counter(run["occurrence"] for run in ledger.runs if run["task_id"] == task["id"])
    skips: Counter[datetime] = Counter()
    for skip in (skip for skip in ledger.skips if skip["task_id"] == task["id"]):
        covered = [one for one in due if skip["first_occurrence"] <= one <= skip["last_occurrence"]]
        if len(covered) != skip["count"]:
            yield f"{asked}: a skip says it covers {skip['count']} occurrences and covers {len(covered)}"
        if skip["reason"] not in allowed:
            yield f"{asked}: {skip['count']} occurrences were left out for {skip['reason']}"
        skips.update(covered)
        outcomes[f"not run: {skip['reason']}"] += len(covered)
    outcomes["run"] += sum(runs.values())
    if (found := runs + skips) != Counter(due):
        missing, surplus = Counter(due) - found, found - Counter(due)
        yield f"{asked}: without outcome {_instants(missing)}, too many outcomes {_instants(surplus)}"


def _due(asked: Cron, created: datetime) -> list[datetime]:
    """The whole minutes divisible by `every` in the hour, from the first on that came after the task was made."""
    count = int((asked.last - asked.first) / MINUTE) + 1
    minutes = (asked.first + MINUTE * number for number in range(count))
    return [one for one in minutes if one > created and one.minute % asked.every == 0]


def ends(ledger: Ledger) -> Iterator[str]:
    """A done run was published by one attempt, whose token and whose file it shows; every attempt has ended."""
    by_run: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    for attempt in ledger.attempts:
        by_run[attempt["run_id"]].append(attempt)
        if attempt["outcome"] not in ENDS:
            yield f"attempt {attempt['id']} of run {attempt['run_id']} ended {attempt['outcome']!r}"
    cancelling = {t["id"] for t in ledger.tasks if t["trigger"].get("overlap") == "cancel_other"}
    for run in ledger.runs:
        attempts = by_run[run["id"]]
        published = [one for one in attempts if one["outcome"] == "published"]
        if run["state"] == "done":
            if [one["lease_token"] for one in published] != [run["lease_token"]]:
                yield f"run {run['id']} is done under token {run['lease_token']} and published by {published}"
            elif run["artifact"]["object"] != published[0]["object_name"]:
                yield f"run {run['id']} shows {run['artifact']['object']}, its attempt wrote another object"
        elif run["state"] != "cancelled" or run["task_id"] not in cancelling:
            yield f"run {run['id']} of task {run['task_id']} ended {run['state']} ({run['reason']}: {run['detail']})"
        elif published:
            yield f"run {run['id']} is cancelled and was published"
        if len({one["lease_token"] for one in attempts}) != len(attempts):
            yield f"run {run['id']} was claimed twice under one token"


def bucket(ledger: Ledger, documents: dict[int, set[int]]) -> Iterator[str]:
    """Every file a run shows is there, whole and right; nothing else is there."""
    left = {(file.name, file.generation): file for file in ledger.files}
    for run in (run for run in ledger.runs if run["state"] == "done" and run["file_deleted_at"] is None):
        for shown in (run["artifact"], run["artifact"]["manifest"]):
            file = left.pop((shown["object"], shown["generation"]), None)
            if file is None:
                yield f"run {run['id']} shows {shown['object']}, which is not there"
            elif (len(file.content), file.sha256) != (shown["bytes"], shown["sha256"]):
                yield f"run {run['id']}: {shown['object']} is not what the run says of it"
            elif shown is run["artifact"] and _ids(file) != sorted(documents[run["chain"]]):
                yield f"run {run['id']}: {shown['object']} does not hold chain {run['chain']}'s documents, once each"
    for name, _ in left:
        yield f"{name} is nobody's"
    for name in ledger.uploads:
        yield f"upload {name} was left behind"


def _ids(file: File) -> list[int]:
    return sorted(json.loads(line)["id"] for line in file.content.splitlines())


def _instants(found: Counter[datetime]) -> str:
    return ", ".join(f"{one.astimezone(UTC):%H:%M} x{count}" for one, count in sorted(found.items())[:5]) or "none"
