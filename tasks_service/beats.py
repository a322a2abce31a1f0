"""Renewing what is held: one heartbeat after another, each a single attempt, and what was heard.

What lives here: what a hold is, what its worker says about itself while it goes, and the thread that beats. What does
not: which process that thread is in (a worker's own beater, beater.py, so that nothing a worker does can keep it from
being heard; or the process itself, where there is none), and what follows from what was heard (lease.py).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

import structlog
from sqlmodel import Session

from tasks_service import metrics
from tasks_service.config import WorkerSettings
from tasks_service.database import claims, parts
from tasks_service.database.claims import Beat, Claim
from tasks_service.database.engine import Database
from tasks_service.database.leases import Fence
from tasks_service.database.parts import PartClaim, TakenPart
from tasks_service.errors import ServiceError
from tasks_service.fault_points import fault_point
from tasks_service.progress import Progress

log = structlog.stdlib.get_logger(__name__)

_PROGRESS_SECONDS = 2.0
"""Progress is written this often at most; a lone heartbeat less often still."""

Kind = Literal["run", "part"]
Word = Literal["renewed", "lost", "cancel"]
Heard: TypeAlias = Callable[[Word, float], None]
"""Told what a heartbeat was answered, and the monotonic instant, in seconds, at which it began. From any thread."""


@dataclass(frozen=True)
class Hold:
    """What is held, in a form that another process understands: `fields` are those its beat is fenced by."""

    kind: Kind
    run_id: int
    fields: dict[str, Any]


@dataclass(frozen=True)
class Standing:
    """What a worker says of itself; instants are of the monotonic clock, one for all processes of a host.

    Attributes:
        moved_at: when it last made progress.
        looked_at: when it last asked whether it may go on.
    """

    moved_at: float
    looked_at: float
    progress: Progress = field(default_factory=Progress)


class Beats(Protocol):
    """A hold that is being renewed, as its worker sees it. No call waits for the database."""

    def say(self, standing: Standing) -> None:
        """Take where the worker stands by now."""

    def listen(self) -> None:
        """Hand over at once what was answered and not told yet."""

    def end(self) -> None:
        """Stop renewing: the last word about what is held is the worker's."""


Beater: TypeAlias = Callable[[Hold, Standing, Heard], Beats]
"""Begins to renew a hold."""


def hold_run(claim: Claim) -> Hold:
    """Describe the hold of a run."""
    return Hold("run", claim.run_id, asdict(Fence(claim.run_id, claim.task_id, claim.lease_token)))


def hold_part(claim: PartClaim) -> Hold:
    """Describe the hold of a part; what it shares out is nothing to its heartbeat."""
    return Hold("part", claim.run_id, asdict(claim.part) | {"share": {}})


def _beat_run(session: Session, fields: Mapping[str, Any], **values: Any) -> Beat:  # noqa: ANN401
    return claims.beat(session, Fence(**fields), **values)


def _beat_part(session: Session, fields: Mapping[str, Any], **values: Any) -> Beat:  # noqa: ANN401
    return parts.beat_part(session, TakenPart(**fields), **values)


BEATS: dict[Kind, Callable[..., Beat]] = {"run": _beat_run, "part": _beat_part}
"""How each kind of hold is renewed: called with a session, the hold's fields, and what a heartbeat says."""


class Beating:
    """A hold that is renewed from a thread of this process, until it ends or is lost or cancelled.

    Attributes:
        hold: what is renewed.
        standing: where its worker stands, as last told.
        trying_since: when the heartbeat began that is under way; None between two.
    """

    def __init__(
        self,
        database: Database,
        settings: WorkerSettings,
        hold: Hold,
        standing: Standing,
        heard: Heard,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin at once."""
        self.hold, self.standing = hold, standing
        self._database = database
        self._settings = settings
        self._heard = heard
        self._clock = clock
        self._wake = threading.Event()
        self._ended = False
        self.trying_since: float | None = None
        self._thread = threading.Thread(target=self._renew, name=f"beats-{hold.run_id}", daemon=True)
        self._thread.start()

    def say(self, standing: Standing) -> None:
        """Take where the worker stands by now; a total that is news is written at once."""
        first_total = self.standing.progress.total is None and standing.progress.total is not None
        self.standing = standing
        if first_total:
            self._wake.set()

    def listen(self) -> None:
        """Do nothing: what was heard was told."""

    def end(self) -> None:
        """Stop renewing."""
        self.leave()
        self._thread.join()

    def leave(self) -> None:
        """Stop renewing; a heartbeat that is under way may still be written, which is fenced and does no harm."""
        self._ended = True
        self._wake.set()

    def _renew(self) -> None:
        """Beat until the end; write progress in between while it moves."""
        interval = min(_PROGRESS_SECONDS, self._settings.heartbeat_seconds)
        # The first turn beats: whoever beat before this one may have ended long ago.
        beaten_at, written = float("-inf"), Progress()
        while not self._ended:
            self._wake.wait(interval)
            self._wake.clear()
            progress, now = self.standing.progress, self._clock()
            quiet = progress == written and now - beaten_at < self._settings.heartbeat_seconds
            # Who does not move may hang where it cannot look: the lease lapses, and another takes over.
            stalled = now - self.standing.moved_at > self._settings.stall_timeout_seconds
            if self._ended or quiet or stalled:
                continue
            self.trying_since = now
            answer = self._tried(progress)
            self.trying_since = None
            if answer is None:
                continue
            # Counted from before the call: the database's lease began no earlier.
            beaten_at, written = now, progress
            if self._tell(answer, now) != "renewed":
                return

    def _tried(self, progress: Progress) -> Beat | None:
        """Try once; None where it failed: the next turn is the next try."""
        try:
            return self._beat(progress)
        except ServiceError as error:
            log.warning("lease.beat_failed", run_id=self.hold.run_id, code=error.code)
        except Exception:
            log.exception("lease.beat_unexpected_error", run_id=self.hold.run_id)
        metrics.BEATS.count(outcome="failed")
        return None

    def _beat(self, progress: Progress) -> Beat:
        with self._database.write() as session:
            answer = BEATS[self.hold.kind](
                session,
                self.hold.fields,
                now=self._database.now(session),
                lease_seconds=self._settings.lease_seconds,
                rows=progress.rows,
                total=progress.total,
                bytes_written=progress.bytes_written,
            )
            fault_point("beat.written")
        fault_point("beat.committed")
        return answer

    def _tell(self, answer: Beat, now: float) -> Word:
        metrics.BEATS.count(outcome="ok" if answer.owned else "lost")
        word: Word = "lost" if not answer.owned else "cancel" if answer.cancel_requested else "renewed"
        if word == "cancel":
            log.info("lease.cancel_heard", run_id=self.hold.run_id)
        if not self._ended:
            self._heard(word, now)
        return word
