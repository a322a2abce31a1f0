"""The tables. Rows only: no query, no rule. Every other module of database/ works on these; nobody else does.

Instants are stored by `Instant`: timestamptz in PostgreSQL, integer microseconds since 1970 in SQLite, so
that they compare as instants on both. They are aware datetimes in UTC everywhere in Python.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from sqlalchemy import JSON, BigInteger, Column, DateTime, Dialect, ForeignKey, Index, Integer, text
from sqlalchemy.types import TypeDecorator, TypeEngine
from sqlmodel import Field, SQLModel

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Instant(TypeDecorator[datetime]):
    """An aware instant in UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Use timestamptz on PostgreSQL, a 64-bit integer elsewhere."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(DateTime(timezone=True))
        return dialect.type_descriptor(BigInteger())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:  # noqa: ANN401 -- by dialect
        """Refuse naive datetimes: they would be read as another instant."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("an instant must carry its offset")
        return value if dialect.name == "postgresql" else (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ANN401 -- by dialect
        """Return UTC on both."""
        if value is None:
            return None
        return value.astimezone(UTC) if dialect.name == "postgresql" else _EPOCH + value * _MICROSECOND


# Text on both: the order of members stays, and a document either is stored on both databases or on none
# (JSONB refuses what JSON may hold). No query looks inside.
Json = JSON(none_as_null=True)
# SQLite numbers rows by itself only where the key is INTEGER.
Id = BigInteger().with_variant(Integer(), "sqlite")


def partial_index(condition: str) -> dict[str, Any]:
    """Return the options of an index over the rows of a condition only, on both databases."""
    return {"postgresql_where": text(condition), "sqlite_where": text(condition)}


def _instant(*, nullable: bool = True, index: bool = False) -> Any:  # noqa: ANN401 -- SQLModel's Field is untyped
    return Field(default=None, sa_column=Column(Instant(), nullable=nullable, index=index))


class Client(SQLModel, table=True):
    """An integration of a chain, or an operator (`chain` null)."""

    __tablename__: ClassVar[Any] = "client"
    __table_args__ = (Index("client_name", "name", unique=True, **partial_index("removed_at IS NULL")),)
    id: str = Field(primary_key=True)
    name: str
    chain: int | None = Field(default=None, sa_type=BigInteger, index=True)
    scopes: list[str] = Field(sa_column=Column(Json, nullable=False))
    created_at: datetime = _instant(nullable=False)
    removed_at: datetime | None = _instant()


class Token(SQLModel, table=True):
    """A key of a client. Only the SHA-256 (hex) of the secret is kept."""

    __tablename__: ClassVar[Any] = "token"
    id: str = Field(primary_key=True)
    client_id: str = Field(foreign_key="client.id", index=True)
    secret_sha256: str
    created_at: datetime = _instant(nullable=False)
    expires_at: datetime | None = _instant()
    last_used_at: datetime | None = _instant()
    revoked_at: datetime | None = _instant()


class Task(SQLModel, table=True):
    """A stored definition: target + trigger, and where its schedule stands.

    `target` and `trigger` are the normalised documents of the HTTP contract (schemas.py), the segment
    or the id of a saved one inside the trigger; `segment_id` repeats that id, so that a segment's users are
    found. `state` (READY | INPROGRESS | DONE | ERROR), `state_reason`, `last_run_at` (its
    start) and `result_run_id` (the latest published one) follow the latest run and change only in the
    transaction that changes the run. `version` counts edits, `revision` counts everything shown,
    `modified_at` is the moment of its last change. `next_run_at` is the first occurrence that has no
    outcome yet; a paused task keeps it, so that what passes meanwhile is known when it resumes. `zone_rules` is the
    fingerprint of the rules it was computed by, empty where no zone matters, null where nobody noted them.
    `paused_reason` is the slug of a pause that nobody asked for; `failures` counts the runs that failed in a row.
    Runs of a backfill change none of this: a task shows its schedule.
    """

    __tablename__: ClassVar[Any] = "task"
    __table_args__ = (
        Index("task_due", "next_run_at", "id", **partial_index("next_run_at IS NOT NULL AND paused_at IS NULL")),
        Index("task_of_chain", "chain", "id"),
        Index("task_zone_rules", "zone_rules", "id", **partial_index("next_run_at IS NOT NULL")),
        Index("task_of_segment", "segment_id", "id", **partial_index("segment_id IS NOT NULL AND deleted_at IS NULL")),
    )
    id: int | None = Field(default=None, sa_column=Column(Id, primary_key=True, autoincrement=True))
    chain: int = Field(sa_type=BigInteger)
    client_id: str = Field(foreign_key="client.id")
    desc: str | None = None
    target: dict[str, Any] = Field(sa_column=Column(Json, nullable=False))
    trigger: dict[str, Any] = Field(sa_column=Column(Json, nullable=False))
    export_index: str = Field(index=True)
    version: int = 1
    revision: int = 1
    state: str = Field(default="READY", index=True)
    state_reason: str | None = None
    last_run_at: datetime | None = _instant()
    last_run_id: int | None = Field(default=None, sa_type=BigInteger)
    result_run_id: int | None = Field(default=None, sa_type=BigInteger)
    next_run_at: datetime | None = _instant()
    paused_at: datetime | None = _instant()
    paused_note: str | None = None
    paused_reason: str | None = None
    failures: int = 0
    created_at: datetime = _instant(nullable=False)
    modified_at: datetime = _instant(nullable=False)
    deleted_at: datetime | None = _instant()
    segment_id: int | None = Field(default=None, sa_type=BigInteger)
    zone_rules: str | None = None


class SavedSegment(SQLModel, table=True):
    """A segment that tasks name instead of carrying one. `version` is its newest; the rules are in the versions.

    Its chain and its index never change, so that no new version can turn a task to other documents.
    """

    __tablename__: ClassVar[Any] = "segment"
    __table_args__ = (
        Index("segment_name", "chain", "name", unique=True, **partial_index("deleted_at IS NULL")),
        Index("segment_of_chain", "chain", "id"),
    )
    id: int | None = Field(default=None, sa_column=Column(Id, primary_key=True, autoincrement=True))
    chain: int = Field(sa_type=BigInteger)
    client_id: str = Field(foreign_key="client.id")
    name: str
    export_index: str
    version: int = 1
    created_at: datetime = _instant(nullable=False)
    modified_at: datetime = _instant(nullable=False)
    deleted_at: datetime | None = _instant()


class SegmentVersion(SQLModel, table=True):
    """What a saved segment was from `created_at` on, and whose client made it so. Never changed, never removed."""

    __tablename__: ClassVar[Any] = "segment_version"
    __table_args__ = (Index("version_of_segment", "segment_id", "version", unique=True),)
    id: int | None = Field(default=None, sa_column=Column(Id, primary_key=True, autoincrement=True))
    segment_id: int = Field(sa_column=Column(Id, ForeignKey("segment.id"), nullable=False))
    version: int
    name: str
    document: dict[str, Any] = Field(sa_column=Column(Json, nullable=False))
    client_id: str = Field(foreign_key="client.id")
    created_at: datetime = _instant(nullable=False)


class Run(SQLModel, table=True):
    """One carrying-out of a task, its lease while it goes, and its artifact once it is published.

    `state`: queued | running | done | failed | cancelled. `kind`: schedule | manual | backfill | retry.
    `definition` is the task's target and trigger as they were when the run was made, a saved segment written
    out with its version: an edit changes only what comes later. `lease_token` grows with every claim; every
    write of a worker names it. `serial` runs wait for the task's other runs. `backfill_id` is set in the runs a
    backfill made and in those that repeat them; the schedule and they take no notice of one another. `started_over`
    counts how often finished parts had to be given up (part_models.py).
    """

    __tablename__: ClassVar[Any] = "run"
    __table_args__ = (
        Index("run_once_per_occurrence", "task_id", "occurrence", unique=True, **partial_index("kind = 'schedule'")),
        Index("run_once_per_backfill", "backfill_id", "occurrence", unique=True, **partial_index("kind = 'backfill'")),
        Index("run_of_task", "task_id", "id"),
        Index("run_of_occurrence", "task_id", "occurrence", "id"),
        Index("run_of_backfill", "backfill_id", "state", **partial_index("backfill_id IS NOT NULL")),
        Index("run_queued", "chain", "available_at", "id", **partial_index("state = 'queued'")),
        Index(
            "run_queued_backfill",
            "chain",
            "available_at",
            "id",
            **partial_index("state = 'queued' AND backfill_id IS NOT NULL"),
        ),
        Index("run_leased", "chain", "lease_until", **partial_index("state = 'running'")),
        Index("run_going", "task_id", "state", "chain", **partial_index("state IN ('queued', 'running')")),
        Index("run_expiring", "expires_at", **partial_index("expires_at IS NOT NULL AND file_deleted_at IS NULL")),
    )
    id: int | None = Field(default=None, sa_column=Column(Id, primary_key=True, autoincrement=True))
    task_id: int = Field(sa_column=Column(Id, ForeignKey("task.id"), nullable=False))
    chain: int = Field(sa_type=BigInteger)
    kind: str
    occurrence: datetime = _instant(nullable=False)
    repeats_run_id: int | None = Field(default=None, sa_type=BigInteger)
    backfill_id: int | None = Field(default=None, sa_type=BigInteger)
    task_version: int
    definition: dict[str, Any] = Field(sa_column=Column(Json, nullable=False))
    serial: bool = True
    state: str = "queued"
    reason: str | None = None
    detail: str | None = None
    created_at: datetime = _instant(nullable=False)
    available_at: datetime = _instant(nullable=False)
    started_at: datetime | None = _instant()
    finished_at: datetime | None = _instant()
    claims: int = 0
    attempts: int = 0
    lease_owner: str | None = None
    lease_until: datetime | None = _instant()
    lease_token: int = 0
    cancel_requested_at: datetime | None = _instant()
    rows: int = Field(default=0, sa_type=BigInteger)
    total: int | None = Field(default=None, sa_type=BigInteger)
    bytes_written: int = Field(default=0, sa_type=BigInteger)
    progress_at: datetime | None = _instant()
    started_over: int = 0
    query: dict[str, Any] | None = Field(default=None, sa_column=Column(Json))
    artifact: dict[str, Any] | None = Field(default=None, sa_column=Column(Json))
    expires_at: datetime | None = _instant()
    file_deleted_at: datetime | None = _instant()


class Backfill(SQLModel, table=True):
    """A request to run past occurrences of a task: those from `start_at` to before `end_at`.

    `state`: running | done | failed | cancelled. `reprocess`: none | failed | all. `definition` is what all its runs
    carry out, as the task had it when the backfill was made. `total` occurrences lie in the range; `skipped` of them
    were left alone, `dropped` of them were given up by a cancellation. What has still to be run is in
    `backfill_occurrence`, everything else in the runs.
    """

    __tablename__: ClassVar[Any] = "backfill"
    __table_args__ = (
        Index("backfill_of_task", "task_id", "id"),
        Index("backfill_running", "task_id", unique=True, **partial_index("state = 'running'")),
    )
    id: int | None = Field(default=None, sa_column=Column(Id, primary_key=True, autoincrement=True))
    task_id: int = Field(sa_column=Column(Id, ForeignKey("task.id"), nullable=False))
    chain: int = Field(sa_type=BigInteger)
    client_id: str = Field(foreign_key="client.id")
    start_at: datetime = _instant(nullable=False)
    end_at: datetime = _instant(nullable=False)
    reprocess: str
    concurrency: int
    task_version: int
    definition: dict[str, Any] = Field(sa_column=Column(Json, nullable=False))
    state: str = "running"
    reason: str | None = None
    total: int
    skipped: int = 0
    dropped: int = 0
    created_at: datetime = _instant(nullable=False)
    finished_at: datetime | None = _instant()


class BackfillOccurrence(SQLModel, table=True):
    """An occurrence that a backfill has still to run; it goes in the transaction that makes the run."""

    __tablename__: ClassVar[Any] = "backfill_occurrence"
    backfill_id: int = Field(sa_column=Column(Id, ForeignKey("backfill.id"), primary_key=True))
    occurrence: datetime = Field(sa_column=Column(Instant(), primary_key=True))


class Attempt(SQLModel, table=True):
    """One try of a run by one worker. `outcome` is null while it goes.

    `outcome`: published | failed | retried | interrupted | cancelled | abandoned (its lease lapsed).
    `object_name` is where it writes (its file, in a folder that is the attempt's own), known before the first byte,
    so that the sweeper finds what a killed worker left; `swept_at` says it looked. `push` and `push_swept_at` are the
    same of its destination (destinations/pushing.py).
    """

    __tablename__: ClassVar[Any] = "attempt"
    __table_args__ = (
        Index("attempt_of_run", "run_id", "number", unique=True),
        Index(
            "attempt_unswept",
            "ended_at",
            **partial_index("object_name IS NOT NULL AND swept_at IS NULL AND outcome <> 'published'"),
        ),
        Index(
            "attempt_push_unswept",
            "ended_at",
            **partial_index("push IS NOT NULL AND push_swept_at IS NULL AND outcome <> 'published'"),
        ),
    )
    id: int | None = Field(default=None, sa_column=Column(Id, primary_key=True, autoincrement=True))
    run_id: int = Field(sa_column=Column(Id, ForeignKey("run.id"), nullable=False))
    number: int
    worker: str
    lease_token: int
    object_name: str | None = None
    started_at: datetime = _instant(nullable=False)
    ended_at: datetime | None = _instant()
    outcome: str | None = None
    code: str | None = None
    detail: str | None = None
    swept_at: datetime | None = _instant()
    push: dict[str, Any] | None = Field(default=None, sa_column=Column(Json))
    push_swept_at: datetime | None = _instant()


class Event(SQLModel, table=True):
    """What happened to a task or a run, append-only; the API shows them as logs."""

    __tablename__: ClassVar[Any] = "event"
    __table_args__ = (Index("event_of_task", "task_id", "id"), Index("event_of_run", "run_id", "id"))
    id: int | None = Field(default=None, sa_column=Column(Id, primary_key=True, autoincrement=True))
    task_id: int = Field(sa_column=Column(Id, ForeignKey("task.id"), nullable=False))
    run_id: int | None = Field(default=None, sa_type=BigInteger)
    time: datetime = _instant(nullable=False)
    level: str
    event: str
    message: str


class Skip(SQLModel, table=True):
    """Occurrences that were not run, and why: from the first to the last of them, `count` in all.

    `cron` and `timezone` say which they were; null where the range is from before they were noted.
    """

    __tablename__: ClassVar[Any] = "skip"
    __table_args__ = (Index("skip_once", "task_id", "first_occurrence", unique=True),)
    id: int | None = Field(default=None, sa_column=Column(Id, primary_key=True, autoincrement=True))
    task_id: int = Field(sa_column=Column(Id, ForeignKey("task.id"), nullable=False))
    first_occurrence: datetime = _instant(nullable=False)
    last_occurrence: datetime = _instant(nullable=False)
    count: int
    reason: str
    cron: str | None = None
    timezone: str | None = None
    recorded_at: datetime = _instant(nullable=False)


class IdempotencyKey(SQLModel, table=True):
    """The first answer to a request that carried an Idempotency-Key."""

    __tablename__: ClassVar[Any] = "idempotency_key"
    client_id: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    fingerprint: str
    task_id: int = Field(sa_type=BigInteger)
    answer: dict[str, Any] = Field(sa_column=Column(Json, nullable=False))
    created_at: datetime = _instant(nullable=False, index=True)


class ZoneRules(SQLModel, table=True):
    """How a time zone's clock goes: its TZif file, as some process of the service had it. Never removed.

    `release` is the newest IANA release it was seen in ("2026f"; empty where none was told), first at `noted_at`.
    """

    __tablename__: ClassVar[Any] = "zone_rules"
    __table_args__ = (Index("zone_rules_of", "name"),)
    fingerprint: str = Field(primary_key=True)
    name: str
    release: str
    data: bytes
    noted_at: datetime = _instant(nullable=False)


class Process(SQLModel, table=True):
    """A process of the service, as it said of itself when it was last seen. Its row goes with its clean end.

    `name` is `host:pid`, as leases and attempts name their worker; `kind`: web | scheduler | worker;
    `state`: idle | working | helping | draining. `run_id` is the run a worker carries out, or helps with.
    """

    __tablename__: ClassVar[Any] = "process"
    __table_args__ = (Index("process_name", "name", unique=True), Index("process_seen", "seen_at"))
    id: int | None = Field(default=None, sa_column=Column(Id, primary_key=True, autoincrement=True))
    name: str
    kind: str
    host: str
    pid: int
    version: str
    started_at: datetime = _instant(nullable=False)
    seen_at: datetime = _instant(nullable=False)
    state: str
    run_id: int | None = Field(default=None, sa_type=BigInteger)
