"""The tables of big exports that are divided: the plan of a run, and its parts. Rows only, as in models.py."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import BigInteger, Column, ForeignKey, Index
from sqlmodel import Field, SQLModel

from tasks_service.database.models import Id, Instant, Json, partial_index


class Plan(SQLModel, table=True):
    """How one run is divided: the frozen view all its parts are read from, and where their objects lie.

    `handle` is the view as its source wrote it down. `fingerprint` names everything that makes the bytes of a part
    what they are, the version of the service included: a worker that has another one leaves the parts alone. A plan
    that ended (`ended_at`) was given up for `reason`; one whose run ended has done its work. `swept_at`: nothing of it
    lies in the storage any more.
    """

    __tablename__: ClassVar[Any] = "plan"
    __table_args__ = (
        Index("plan_once_per_run", "run_id", unique=True, **partial_index("ended_at IS NULL")),
        Index("plan_unswept", "id", **partial_index("swept_at IS NULL")),
    )
    id: int | None = Field(default=None, sa_column=Column(Id, primary_key=True, autoincrement=True))
    run_id: int = Field(sa_column=Column(Id, ForeignKey("run.id"), nullable=False))
    fingerprint: str
    handle: dict[str, Any] = Field(sa_column=Column(Json, nullable=False))
    total: int = Field(sa_type=BigInteger)
    folder: str
    created_at: datetime = Field(sa_column=Column(Instant(), nullable=False))
    ended_at: datetime | None = Field(default=None, sa_column=Column(Instant(), nullable=True))
    reason: str | None = None
    swept_at: datetime | None = Field(default=None, sa_column=Column(Instant(), nullable=True))


class Part(SQLModel, table=True):
    """One slice of a big run: what of the view it holds, who works on it, and its object once it is whole.

    `state`: waiting | running | done. `lease_token` grows with every claim. A part that the run's own attempt works on
    has that attempt's token in `run_token` and no lease of its own: it is held as long as the run is. `share` and
    `documents` are what the plan says, `rows` and `bytes_written` how far it is, `file` the finished object.
    """

    __tablename__: ClassVar[Any] = "part"
    __table_args__ = (
        Index("part_of_plan", "plan_id", "number", unique=True),
        Index("part_unfinished", "plan_id", "number", **partial_index("state <> 'done'")),
    )
    id: int | None = Field(default=None, sa_column=Column(Id, primary_key=True, autoincrement=True))
    plan_id: int = Field(sa_column=Column(Id, ForeignKey("plan.id"), nullable=False))
    number: int
    share: dict[str, Any] = Field(sa_column=Column(Json, nullable=False))
    documents: int = Field(sa_type=BigInteger)
    state: str = "waiting"
    claims: int = 0
    lease_owner: str | None = None
    lease_until: datetime | None = Field(default=None, sa_column=Column(Instant(), nullable=True))
    lease_token: int = 0
    run_token: int | None = None
    rows: int = Field(default=0, sa_type=BigInteger)
    bytes_written: int = Field(default=0, sa_type=BigInteger)
    file: dict[str, Any] | None = Field(default=None, sa_column=Column(Json))
    finished_at: datetime | None = Field(default=None, sa_column=Column(Instant(), nullable=True))
