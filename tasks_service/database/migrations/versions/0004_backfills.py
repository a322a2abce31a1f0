"""Backfills, failures in a row, which occurrences a skipped range had, and the rules of zones.

Revision: 0004; follows: 0005. `run.backfill_id` carries no foreign key: SQLite would have to make the table anew, which
its own foreign keys forbid while it is referred to. The way back keeps the runs of backfills: they have files.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0005"
branch_labels = None
depends_on = None

INSTANT = sa.BigInteger().with_variant(sa.DateTime(timezone=True), "postgresql")
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _where(condition: str) -> dict[str, Any]:
    return {"postgresql_where": sa.text(condition), "sqlite_where": sa.text(condition)}


def upgrade() -> None:
    """Make the three tables and the new columns."""
    op.create_table(
        "backfill",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("task_id", ID, nullable=False),
        sa.Column("chain", sa.BigInteger(), nullable=False),
        sa.Column("client_id", sa.String(), nullable=False),
        sa.Column("start_at", INSTANT, nullable=False),
        sa.Column("end_at", INSTANT, nullable=False),
        sa.Column("reprocess", sa.String(), nullable=False),
        sa.Column("concurrency", sa.Integer(), nullable=False),
        sa.Column("task_version", sa.Integer(), nullable=False),
        sa.Column("definition", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("skipped", sa.Integer(), nullable=False),
        sa.Column("dropped", sa.Integer(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("finished_at", INSTANT, nullable=True),
        sa.ForeignKeyConstraint(["client_id"], ["client.id"]),
        sa.ForeignKeyConstraint(["task_id"], ["task.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("backfill_of_task", "backfill", ["task_id", "id"])
    op.create_index("backfill_running", "backfill", ["task_id"], unique=True, **_where("state = 'running'"))
    op.create_table(
        "backfill_occurrence",
        sa.Column("backfill_id", ID, nullable=False),
        sa.Column("occurrence", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["backfill_id"], ["backfill.id"]),
        sa.PrimaryKeyConstraint("backfill_id", "occurrence"),
    )
    op.create_table(
        "zone_rules",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("start_at", INSTANT, nullable=False),
        sa.Column("end_at", INSTANT, nullable=False),
        sa.Column("offsets", sa.JSON(), nullable=False),
        sa.Column("noted_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.add_column("task", sa.Column("paused_reason", sa.String(), nullable=True))
    op.add_column("task", sa.Column("failures", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("skip", sa.Column("cron", sa.String(), nullable=True))
    op.add_column("skip", sa.Column("timezone", sa.String(), nullable=True))
    op.add_column("run", sa.Column("backfill_id", sa.BigInteger(), nullable=True))
    op.create_index(
        "run_once_per_backfill", "run", ["backfill_id", "occurrence"], unique=True, **_where("kind = 'backfill'")
    )
    op.create_index("run_of_occurrence", "run", ["task_id", "occurrence", "id"])
    op.create_index("run_of_backfill", "run", ["backfill_id", "state"], **_where("backfill_id IS NOT NULL"))
    op.create_index(
        "run_queued_backfill",
        "run",
        ["chain", "available_at", "id"],
        **_where("state = 'queued' AND backfill_id IS NOT NULL"),
    )


def downgrade() -> None:
    """Drop them; what a backfill had still to run is forgotten."""
    for index in ("run_queued_backfill", "run_of_backfill", "run_of_occurrence", "run_once_per_backfill"):
        op.drop_index(index, "run")
    op.drop_column("run", "backfill_id")
    for column in ("timezone", "cron"):
        op.drop_column("skip", column)
    for column in ("failures", "paused_reason"):
        op.drop_column("task", column)
    op.drop_table("zone_rules")
    op.drop_table("backfill_occurrence")
    op.drop_table("backfill")
