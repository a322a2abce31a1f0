"""An installation of many processes, a load of tasks that fire, and the oracle of what must have become of each."""

from __future__ import annotations

import json
import signal
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import Popen
from threading import Event, Thread
from typing import Any

import urllib3

from tests.acceptance.conftest import CHAIN
from tests.acceptance.service import Answer, Api, Service
from tests.waiting import eventually

ROWS = 50
HERE: Callable[[Callable[[], Any]], Any] = lambda function: function()  # noqa: E731 -- a default that is called


def write_documents(directory: Path, rows: int = ROWS) -> None:
    """Give the installation a small index of products."""
    folder = directory / "documents" / "products"
    folder.mkdir(parents=True)
    documents = ({"id": n, "chain_id": CHAIN, "name": f"product {n}"} for n in range(rows))
    (folder / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in documents))


def files(exports: Path) -> list[Path]:
    """The objects that lie in the storage, whole ones and half ones."""
    return [path for path in exports.rglob("*.csv@/*") if path.is_file()]


@dataclass
class Member:
    """One process of the fleet, and how to start it again."""

    service: Service
    kind: str
    process: Popen[bytes]


@dataclass
class Fleet:
    """Processes of one installation on any number of hosts.

    Attributes:
        call: calls a function from where the web processes are reached.
    """

    call: Callable[[Callable[[], Any]], Any] = HERE
    members: list[Member] = field(default_factory=list)

    def add(self, service: Service, *kinds: str) -> None:
        """Start a process of each kind on the host of that service, and see it start."""
        for kind in kinds:
            seen = self._started(service, kind)
            self.members.append(Member(service, kind, service.start(kind)))
            self._up(service, kind, seen)

    def replace(self, member: Member) -> None:
        """Ask a process to end as an operator does, see it end well, and start another in its place."""
        member.process.send_signal(signal.SIGTERM)
        assert member.process.wait(timeout=90) == 0, f"{member.kind} ended with {member.process.returncode}"
        seen = self._started(member.service, member.kind)
        member.process = member.service.start(member.kind)
        self._up(member.service, member.kind, seen)

    def _up(self, service: Service, kind: str, seen: int) -> None:
        if kind == "web":
            self.call(service.ready)
        else:
            eventually(lambda: self._started(service, kind) > seen, timeout=60, what=f"the {kind} has started")

    def _started(self, service: Service, kind: str) -> int:
        return sum(line.get("event") == f"{kind}.started" for line in service.events())


@dataclass
class Load:
    """Tasks that fire while the fleet is being disturbed."""

    fleet: Fleet
    apis: Sequence[Api]
    expected: dict[int, datetime | None] = field(default_factory=dict)

    def due_one_after_the_other(self, count: int, *, first_in: float, every: float) -> None:
        """Create tasks, each due once."""
        start = datetime.now(UTC) + timedelta(seconds=first_in)
        for number in range(count):
            due = (start + timedelta(seconds=number * every)).replace(microsecond=0)
            self.expected[self.create(f"{due:%Y-%m-%dT%H:%M:%SZ}")] = due

    @contextmanager
    def posted_meanwhile(self, every: float) -> Iterator[None]:
        """Go on creating tasks that are due at once, as partners do who know nothing of what goes on."""
        ending, failures = Event(), list[BaseException]()

        def post() -> None:
            while not ending.wait(every):
                try:
                    self.expected[self.create("2026-01-01T00:00:00Z")] = None
                except BaseException as error:  # noqa: BLE001 -- handed to the test below
                    failures.append(error)
                    return

        thread = Thread(target=post, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ending.set()
            thread.join(120)
        assert failures == []

    def create(self, once: str) -> int:
        """Create a task as a careful client does: the same key until somebody answers, whichever process that is."""
        target = {"action": "export", "export_index": "products", "export_format": "csv"}
        body = {"chain": CHAIN, "target": target, "trigger": {"once": once}}
        key = f'"{uuid.uuid4()}"'
        answer = eventually(
            lambda: next(filter(None, (self._post(api, body, key) for api in self.apis)), None), what="a 201"
        )
        assert answer is not None
        return int(answer.json["id"])

    def _post(self, api: Api, body: dict[str, Any], key: str) -> Answer | None:
        try:
            answer: Answer = self.fleet.call(lambda: api.request("POST", "/tasks", body, Idempotency_Key=key))
        except urllib3.exceptions.HTTPError:
            return None  # not there, or gone in mid-request: the key makes asking again harmless
        return answer if answer.status == 201 else None

    def runs(self, task_id: int) -> list[dict[str, Any]]:
        """The runs of a task."""
        answer: Answer = self.fleet.call(lambda: self.apis[0].request("GET", f"/tasks/{task_id}/runs"))
        assert answer.status == 200, answer.body
        return answer.json["results"]

    def run(self, task_id: int) -> dict[str, Any]:
        """The one run of a task, with its attempts."""
        [run] = self.runs(task_id)
        return run

    def nothing_lost_nothing_doubled(self, exports: Path) -> list[dict[str, Any]]:
        """Wait for the end of all, and hold them against what was asked for; return the runs."""

        def all_done() -> bool:
            going = {task: [run["state"] for run in self.runs(task)] for task in self.expected}
            going = {task: states for task, states in going.items() if not states or {*states} != {"done"}}
            assert going == {}
            return True

        eventually(all_done, timeout=120, every=1, what="every run is done")
        found = {task: self.runs(task) for task in self.expected}
        assert {task: len(runs) for task, runs in found.items() if len(runs) != 1} == {}
        for task, due in self.expected.items():
            assert due is None or datetime.fromisoformat(found[task][0]["occurrence"]) == due
        runs = [runs[0] for runs in found.values()]
        for run in runs:
            outcomes = Counter(attempt["outcome"] for attempt in run["attempts"])
            assert outcomes["published"] == 1, run
            assert set(outcomes) <= {"published", "interrupted"}, run
        written = files(exports)
        assert len(written) == len(runs), "one file a run, and none of anybody else"
        assert all(path.read_text().count("\n") == ROWS + 1 for path in written)
        return runs
