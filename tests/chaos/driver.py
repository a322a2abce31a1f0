"""The chaos driver: an installation of real processes, struck down again and again while tasks keep coming.

Processes die by SIGKILL at random instants and at named fault points, are stopped beyond their lease and go on, and
(on PostgreSQL) have their connections swallowed by a half-open proxy. Clients create tasks over HTTP meanwhile, as
careful clients do: with one Idempotency-Key until somebody answers. In the end all is calm, everything that is due
gets its outcome, and judge.py holds the database and the bucket against what was asked for. ``make chaos SEED= KILLS=
DATABASE=`` is this module; a slice of it runs in the tests (test_driver.py).
"""

from __future__ import annotations

import contextlib
import random
import signal
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

import typer
import urllib3
from sqlalchemy import make_url

from tasks_service.database import clients, schema
from tasks_service.fault_points import FAULT_POINTS
from tests import clockwork
from tests.acceptance.service import Api, free_port
from tests.chaos.inside import IDS, RUN, Place, Strike, write_documents
from tests.chaos.judge import KINDS, MINUTE, Cron, Once, Verdict, judge
from tests.chaos.ledger import read
from tests.databases import NOW, connect
from tests.servers import keeper, postgresql
from tests.servers.fixtures import SERVERS
from tests.servers.tcp_proxy import TcpProxy
from tests.waiting import eventually

SPEED = 20.0
HERD = ["scheduler", "worker", "web", "worker", "scheduler", "worker"]
SEASON = timedelta(minutes=20)
"""For how long recurring tasks are made, by the fast clock; a minute lasts three real seconds."""
AHEAD = timedelta(minutes=4)
"""How long before its first occurrence a task is made: longer than a client ever had to ask."""
BETWEEN_HARMS = (0.05, 0.8)
STOPPED = (0.3, 5.0)  # the lease is two real seconds
CUT = (0.5, 4.0)
SKEWS = [timedelta(minutes=10), timedelta(0), timedelta(minutes=-10)]
STRIKES = 0.6  # of all processes are armed with a fault point
POINTS = {
    "web": [name for name in FAULT_POINTS if name.startswith("task.")],
    "scheduler": [name for name in FAULT_POINTS if name.startswith("due.")],
    "worker": [name for name in FAULT_POINTS if not name.startswith(("task.", "due.", "backfill.", "push."))],
}
CALM_SECONDS = 300.0


@dataclass
class Member:
    """One process of the herd, and where it stands."""

    kind: str
    place: Place
    process: ForkServerProcess
    strike: Strike | None
    resume_at: float | None = None

    def send(self, number: signal.Signals) -> None:
        """Send a signal to it and all that it has started."""
        clockwork.send(self.process, number)


@dataclass
class Herd:
    """The processes, and all that is done to them.

    Attributes:
        places: where processes of the installation may work: on PostgreSQL also behind the proxy.
        harms: how often each kind of harm was done; "struck" counts the points processes died at.
    """

    chance: random.Random
    places: list[Place]
    proxy: TcpProxy | None
    ports: list[int]
    members: list[Member] = field(default_factory=list)
    harms: Counter[str] = field(default_factory=Counter)
    struck: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    heal_at: float | None = None

    @property
    def kills(self) -> int:
        return self.harms["killed"] + self.harms["killed at a fault point"]

    def begin(self) -> None:
        for kind in HERD:
            self._start(kind, armed=False, port=self.ports[0])

    def harm(self) -> None:
        """Do one thing to one of them, and see to the others."""
        self.tend()
        weights = {"kill": 20, "stop": 3, "cut": 2 if self.proxy is not None else 0}
        [what] = self.chance.choices(list(weights), list(weights.values()))
        if what == "cut":
            self._cut()
            return
        member = self.chance.choice(self.members)
        if what == "kill":
            member.send(signal.SIGKILL)
            member.process.join(30)
            self.harms["killed"] += 1
            self._replace(member)
        elif member.resume_at is None:
            member.send(signal.SIGSTOP)
            member.resume_at = time.monotonic() + self.chance.uniform(*STOPPED)
            self.harms["stopped"] += 1

    def tend(self, *, armed: bool = True) -> None:
        """Replace who died at a fault point, let go on who was stopped long enough, heal the network."""
        now = time.monotonic()
        for member in list(self.members):
            if not member.process.is_alive():
                self._bury(member, armed=armed)
            elif member.resume_at is not None and member.resume_at <= now:
                member.send(signal.SIGCONT)
                member.resume_at = None
        if self.heal_at is not None and self.heal_at <= now and self.proxy is not None:
            self.proxy.heal(reset_lost=True)
            self.heal_at = None

    def calm(self) -> None:
        """No more harm: everybody goes on, nobody is armed any more."""
        for member in self.members:
            member.resume_at = None if member.resume_at is None else 0.0
        self.heal_at = None if self.heal_at is None else 0.0
        for member in [one for one in self.members if one.strike is not None]:
            member.send(signal.SIGKILL)
            member.process.join(30)
            self._replace(member, armed=False)
        self.tend(armed=False)

    def end(self) -> None:
        """Ask everybody to end, as an operator does, and see how they do."""
        for member in self.members:
            code = clockwork.end(member.process)
            if code not in {0, -signal.SIGTERM if member.kind == "web" else 0}:
                self.wrong.append(f"a {member.kind} asked to end ended with {code}")

    def _cut(self) -> None:
        if self.proxy is not None and self.heal_at is None:
            self.proxy.swallow()
            self.heal_at = time.monotonic() + self.chance.uniform(*CUT)
            self.harms["cut off"] += 1

    def _bury(self, member: Member, *, armed: bool) -> None:
        if member.process.exitcode == -signal.SIGKILL and member.strike is not None:
            self.harms["killed at a fault point"] += 1
            self.struck[member.strike.name] += 1
        else:
            self.wrong.append(f"a {member.kind} ended by itself with {member.process.exitcode}")
        self._replace(member, armed=armed)

    def _replace(self, member: Member, *, armed: bool = True) -> None:
        self.members.remove(member)
        self._start(member.kind, armed=armed, port=member.place.port)

    def _start(self, kind: str, *, armed: bool, port: int) -> None:
        place = replace(self.chance.choice(self.places), port=port, skew=self.chance.choice(SKEWS))
        strike = None
        if armed and self.chance.random() < STRIKES:
            strike = Strike(self.chance.choice(POINTS[kind]), self.chance.randrange(4))
        self.members.append(Member(kind, place, clockwork.start(RUN[kind], place, strike), strike))


@dataclass
class Load:
    """Clients that create tasks over HTTP for as long as it goes on, and keep what they asked for."""

    chance: random.Random
    apis: dict[int, Api]
    database: clockwork.FastDatabase
    season: timedelta
    asked: list[Cron | Once] = field(default_factory=list)
    ending: threading.Event = field(default_factory=threading.Event)
    failures: list[BaseException] = field(default_factory=list)

    def now(self) -> datetime:
        with self.database.read() as session:
            return self.database.now(session)

    def recurring(self) -> datetime:
        """Create recurring tasks of both chains for the coming minutes; return the last of these."""
        last = self.now()
        for chain in self.apis:
            for kind, (every, policies, _) in enumerate(KINDS):
                first = (self.now() + AHEAD).replace(second=0, microsecond=0)
                last = first + self.season
                task = Cron(f"{uuid.uuid4()}", chain, kind, first, last)
                trigger = {"cron": f"*/{every} * * * *", "start_at": _text(first), "end_at": _text(last), **policies}
                self._create(task, trigger)
        return last

    @contextmanager
    def meanwhile(self) -> Generator[None]:
        """Go on creating tasks from a thread."""
        thread = threading.Thread(target=self._go_on, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.ending.set()
            thread.join(180)

    def _go_on(self) -> None:
        try:
            last = self.recurring()
            while not self.ending.wait(self.chance.uniform(0.1, 0.9)):
                due = (self.now() + timedelta(seconds=self.chance.uniform(-30, 180))).replace(microsecond=0)
                self._create(Once(f"{uuid.uuid4()}", self.chance.choice(list(self.apis)), due), {"once": _text(due)})
                if self.now() > last - AHEAD:
                    last = self.recurring()
        except BaseException as error:  # noqa: BLE001 -- told to whoever waits
            self.failures.append(error)

    def _create(self, task: Cron | Once, trigger: dict[str, Any]) -> None:
        """Create a task: the same key until somebody answers.

        A season that is over before anybody did is refused: then there must be no such task.
        """
        target = {"action": "export", "export_index": "products", "export_format": "jsonl"}
        body = {"chain": task.chain, "desc": task.key, "target": target, "trigger": trigger}

        def answered() -> int:
            with contextlib.suppress(urllib3.exceptions.HTTPError):
                answer = self.apis[task.chain].request("POST", "/tasks", body, Idempotency_Key=f'"{task.key}"')
                late = answer.status == 422 and b"`end_at` lies in the past" in answer.body
                # 409: the same request, under way in a process that was stopped or cut off in the midst of it.
                assert answer.status in {201, 409, 503} or late, answer.body
                return answer.status if answer.status == 201 or late else 0
            return 0

        if eventually(answered, timeout=120, every=0.1, what=f"a 201 for {task}") == 201:
            self.asked.append(task)


@dataclass(frozen=True)
class Outcome:
    """How a whole run of the driver ended."""

    verdict: Verdict
    harms: dict[str, int]
    points: int
    seconds: float

    def told(self) -> str:
        lines = [f"  {name}: {count}" for name, count in {**self.harms, **self.verdict.figures}.items()]
        wrong = [f"  WRONG {line}" for line in self.verdict.wrong[:50]]
        return "\n".join(
            [f"{self.seconds:.0f} s, {self.points} of {len(FAULT_POINTS)} fault points died at", *lines, *wrong]
        )


def drive(url: str, directory: Path, *, seed: int, kills: int, season: timedelta = SEASON) -> Outcome:
    """Strike an installation over an empty database until so many processes were killed, and judge what is left."""
    began = time.monotonic()
    write_documents(directory)
    database = connect(url)
    schema.upgrade(database)
    fast = clockwork.fast(database, url, shown=NOW, speed=SPEED)
    database.dispose()
    with ExitStack() as stack:
        place = Place(url, fast.clock, directory)
        places, proxy = [place], None
        if (parsed := make_url(url)).get_backend_name() == "postgresql":
            proxy = stack.enter_context(TcpProxy(str(parsed.host), int(parsed.port or 5432)))
            behind = parsed.set(host=proxy.host, port=proxy.port).render_as_string(hide_password=False)
            places.append(replace(place, url=behind))
        port = free_port()
        herd = Herd(random.Random(seed), places, proxy, [port])
        load = Load(random.Random(seed + 1), _apis(fast, f"http://127.0.0.1:{port}"), fast, season)
        try:
            herd.begin()
            with load.meanwhile():
                while herd.kills < kills and not load.failures:
                    threading.Event().wait(herd.chance.uniform(*BETWEEN_HARMS))
                    herd.harm()
                herd.calm()
            herd.wrong += [f"a client: {error!r}" for error in load.failures]
            _settle(herd, load, url, directory)
            herd.end()
        finally:
            for member in herd.members:
                member.send(signal.SIGKILL)
        place.sweep(later_by=timedelta(hours=3))
        fast.dispose()
    verdict = judge(read(url, directory / "exports"), load.asked, IDS)
    whole = Verdict(herd.wrong + verdict.wrong, verdict.figures)
    return Outcome(whole, dict(herd.harms), len(herd.struck), time.monotonic() - began)


def _settle(herd: Herd, load: Load, url: str, directory: Path) -> None:
    """Wait until everything asked for is over and has ended."""
    over = max((one.last if isinstance(one, Cron) else one.due) for one in load.asked) + MINUTE

    def ended() -> bool:
        herd.tend(armed=False)
        assert load.now() > over, "the last occurrence is still to come"
        ledger = read(url, directory / "none")
        assert all(task["next_run_at"] is None for task in ledger.tasks), "occurrences without an outcome"
        going = Counter(run["state"] for run in ledger.runs if run["state"] in {"queued", "running"})
        assert not going, going
        return True

    try:
        eventually(ended, timeout=CALM_SECONDS, every=0.5, what="everything to end")
    except AssertionError as error:
        herd.wrong.append(str(error))


def _apis(database: clockwork.FastDatabase, url: str) -> dict[int, Api]:
    """A client of each chain, and its access to the API."""
    apis = {}
    for chain in IDS:
        with database.write() as session:
            now = database.now(session)
            name = f"partner-{chain}"
            client = clients.create_client(session, now=now, name=name, chain=chain, scopes=clients.SCOPES)
            _, token = clients.create_token(session, now=now, client=client)
        apis[chain] = Api(url, token, urllib3.PoolManager(retries=False, timeout=10))
    return apis


def _text(instant: datetime) -> str:
    return f"{instant:%Y-%m-%dT%H:%M:%SZ}"


def main(
    seed: Annotated[int, typer.Option(help="Of the harm that is done; the instants themselves are the machine's.")] = 1,
    kills: Annotated[int, typer.Option(min=1, help="Processes to kill.")] = 1000,
    database: Annotated[str, typer.Option(help="sqlite or postgresql.")] = "sqlite",
) -> None:
    """Strike the service down, and see whether anything was lost or doubled."""
    where: Literal["sqlite", "postgresql"] = "postgresql" if database == "postgresql" else "sqlite"
    with TemporaryDirectory(prefix="tasks-service-chaos-") as name, keeper.leading():
        url = f"sqlite:///{name}/tasks.db"
        if where == "postgresql":
            port = int(keeper.attach(SERVERS["postgresql_database"])["port"])
            url = postgresql.create_database(port, f"tasks_{uuid.uuid4().hex}")
        outcome = drive(url, Path(name), seed=seed, kills=kills)
        print(f"seed {seed}, {where}: {outcome.told()}")  # noqa: T201 -- what it is for
        if outcome.verdict.wrong:
            kept = Path(f"{name}.log")
            kept.write_bytes((Path(name) / "service.log").read_bytes())
            sys.exit(f"Something is wrong; the log of all processes is {kept}")


if __name__ == "__main__":
    typer.run(main)
