"""The table of whose turn it is (fairness.py). Rows only, as in models.py."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import BigInteger, Column
from sqlmodel import Field, SQLModel

from tasks_service.database.models import Instant


class ChainTurn(SQLModel, table=True):
    """When a run of the chain was last claimed, by any worker. A chain that never had one has no row."""

    __tablename__: ClassVar[Any] = "chain_turn"
    chain: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    claimed_at: datetime = Field(sa_column=Column(Instant(), nullable=False))
