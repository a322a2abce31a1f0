"""The process beside a worker that beats for it: `python -m tasks_service.beater`, started by beater_link.py.

What lives here: its life. It reads where its worker stands from standard input, a JSON object a line, renews what the
worker holds (beats.py) and writes what it was answered to standard output. It also ends a worker that must stop and
does not look: one that was cancelled, has lost what it held, or stalls, in a call that does not return. It lives for as
long as its standard input is open, in its worker's process group, so that what stops or kills the group meets both.
What does not: the worker's end of the pipe (beater_link.py), and why an attempt ends (lease.py).
"""

from __future__ import annotations

import json
import os
import select
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

import structlog

from tasks_service import metrics, telemetry
from tasks_service.beats import Beating, Hold, Standing, Word
from tasks_service.config import DatabaseSettings, ServiceSettings, WorkerSettings
from tasks_service.database import claims
from tasks_service.database.engine import BUSY_SECONDS, Database
from tasks_service.database.leases import Fence
from tasks_service.errors import ServiceError
from tasks_service.progress import Progress

log = structlog.stdlib.get_logger(__name__)

_WATCH_SECONDS = 0.25
_CANCEL_SECONDS = 5.0
"""A database that is slow to take a cancellation is not waited for longer."""

Reason = Literal["cancelled", "lost", "stalled"]


class Watch:
    """Whether the worker of a hold has to be ended from outside. Instants are those of the monotonic clock."""

    def __init__(self, settings: WorkerSettings) -> None:
        """Begin: nothing was heard yet."""
        self._settings = settings
        self._words: set[Word] = set()
        self._noticed: dict[Reason, float] = {}

    def hear(self, word: Word) -> None:
        """Take what a heartbeat was answered."""
        self._words.add(word)

    def verdict(self, standing: Standing, now: float) -> Reason | None:
        """Return why the worker is to be killed now: it must stop, and has not looked for a lease since.

        A worker asks every second whether it may go on, unless it hangs or its storage takes long over one call. The
        time counts from when the reason was noticed here: a host that stood still finds all of them at once. A worker
        whose database is away is left alone: its writes are fenced, and what it holds may still be its own after.
        """
        reasons: dict[Reason, bool] = {
            "cancelled": "cancel" in self._words,
            "lost": "lost" in self._words,
            "stalled": now - standing.moved_at > self._settings.stall_timeout_seconds,
        }
        for reason, holds in reasons.items():
            if not holds:
                self._noticed.pop(reason, None)
                continue
            since = self._noticed.setdefault(reason, now)
            if standing.looked_at < since and now - since > self._settings.lease_seconds:
                return reason
        return None


class BesideWorker:
    """Does what the lines say, and watches the worker."""

    def __init__(
        self,
        database: Database,
        settings: WorkerSettings,
        answer: Callable[[dict[str, Any]], None],
        *,
        worker: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take where to beat, where to answer, and the number of the worker's process."""
        self._database = database
        self._settings = settings
        self._answer = answer
        self._worker = worker
        self._clock = clock
        # Half a lease leaves time for the next one; less than SQLite waits for its lock is no sign of anything.
        self._longest_beat = max(settings.lease_seconds / 2, BUSY_SECONDS + 5)
        self._number = 0
        self._beating: Beating | None = None
        self._watch: Watch | None = None

    def obey(self, line: dict[str, Any]) -> None:
        """Do what a line says: each tells the whole state, so that none that was lost is missed."""
        number: int = line["number"]
        if self._beating is not None and (number != self._number or line["hold"] is None):
            self._beating.leave()
            self._beating = self._watch = None
        if line["hold"] is None:
            return
        said = line["standing"]
        standing = Standing(said["moved_at"], said["looked_at"], Progress(**said["progress"]))
        if self._beating is None:
            self._number = number
            self._begin(number, Hold(**line["hold"]), standing)
        else:
            self._beating.say(standing)

    def look(self) -> None:
        """End the worker if it has to be; end this process where its heartbeat hangs."""
        if self._beating is None or self._watch is None:
            return
        hold, now = self._beating.hold, self._clock()
        trying_since = self._beating.trying_since
        if trying_since is not None and now - trying_since > self._longest_beat:
            # Nothing else ends a call over a connection that is open and dead. The next beater has new ones.
            log.warning("beater.beat_hangs", run_id=hold.run_id, seconds=round(now - trying_since, 1))
            os._exit(1)
        reason = self._watch.verdict(self._beating.standing, now)
        if reason is None or os.getppid() != self._worker:
            return
        if reason == "cancelled" and hold.kind == "run":
            recording = threading.Thread(target=self._cancel, args=(hold,), daemon=True)
            recording.start()
            recording.join(_CANCEL_SECONDS)
        log.error("beater.worker_killed", run_id=hold.run_id, pid=self._worker, reason=reason)
        with suppress(ProcessLookupError):
            os.kill(self._worker, signal.SIGKILL)

    def _begin(self, number: int, hold: Hold, standing: Standing) -> None:
        def heard(word: Word, began_at: float) -> None:
            watch.hear(word)
            self._answer({"number": number, "word": word, "at": began_at})

        self._watch = watch = Watch(self._settings)
        self._beating = Beating(self._database, self._settings, hold, standing, heard, clock=self._clock)

    def _cancel(self, hold: Hold) -> None:
        """Record that the run is cancelled; where the database does not answer, whoever finds it lapsed does."""
        try:
            with self._database.write() as session:
                claims.cancelled(session, Fence(**hold.fields), now=self._database.now(session))
        except ServiceError as error:
            log.warning("beater.cancel_unrecorded", run_id=hold.run_id, code=error.code)


def main() -> None:
    """Beat until the worker is gone."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # the worker decides when both end
    # Unbuffered: what follows the first line is read from the descriptor.
    line = open(0, "rb", buffering=0, closefd=False).readline()  # noqa: SIM115
    if not line:
        return  # the worker is gone already
    first = json.loads(line)
    service = ServiceSettings.model_validate(first["service"])
    telemetry.configure(log_format=service.log_format, level=service.log_level, process="beater")
    telemetry.log_uncaught()
    metrics.begin(service.state_directory, "beater")
    database = Database(DatabaseSettings.model_validate(first["database"]))
    beside = BesideWorker(database, WorkerSettings.model_validate(first["worker"]), _answer, worker=os.getppid())
    os.set_blocking(1, False)
    _answer({"number": 0, "word": "ready", "at": time.monotonic()})
    rest = b""
    while True:
        if select.select([0], [], [], _WATCH_SECONDS)[0]:
            piece = os.read(0, 64 * 1024)
            if not piece:
                os._exit(0)  # a heartbeat that hangs is not waited for
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                beside.obey(json.loads(line))
        beside.look()


def _answer(answer: dict[str, Any]) -> None:
    """Write a line, all of it or nothing: a worker that does not read must not hold up its own heartbeats."""
    with suppress(BlockingIOError, BrokenPipeError):
        os.write(1, json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    main()
