"""Saved segments and their versions, and which of them a task uses.

Revision: 0002; follows: 0001. The new column of `task` carries no foreign key: SQLite would have to make the table
anew, which its own foreign keys forbid while it is referred to. Who writes the column holds the segment instead.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

INSTANT = sa.BigInteger().with_variant(sa.DateTime(timezone=True), "postgresql")
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _where(condition: str) -> dict[str, Any]:
    return {"postgresql_where": sa.text(condition), "sqlite_where": sa.text(condition)}


def upgrade() -> None:
    """Make the two tables, and let tasks name a segment."""
    op.create_table(
        "segment",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("chain", sa.BigInteger(), nullable=False),
        sa.Column("client_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("export_index", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("modified_at", INSTANT, nullable=False),
        sa.Column("deleted_at", INSTANT, nullable=True),
        sa.ForeignKeyConstraint(
            ["client_id"],
            ["client.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("segment_name", "segment", ["chain", "name"], unique=True, **_where("deleted_at IS NULL"))
    op.create_index("segment_of_chain", "segment", ["chain", "id"])
    op.create_table(
        "segment_version",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("segment_id", ID, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("client_id", sa.String(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(
            ["client_id"],
            ["client.id"],
        ),
        sa.ForeignKeyConstraint(
            ["segment_id"],
            ["segment.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("version_of_segment", "segment_version", ["segment_id", "version"], unique=True)
    op.add_column("task", sa.Column("segment_id", sa.BigInteger(), nullable=True))
    op.create_index(
        "task_of_segment", "task", ["segment_id", "id"], **_where("segment_id IS NOT NULL AND deleted_at IS NULL")
    )


def downgrade() -> None:
    """Drop them. A task that named a segment gets its newest version as its own: without, it would export every row."""
    task = sa.table("task", sa.column("id", ID), sa.column("segment_id", ID), sa.column("trigger", sa.JSON()))
    segment = sa.table("segment", sa.column("id", ID), sa.column("version", sa.Integer()))
    version = sa.table(
        "segment_version",
        sa.column("segment_id", ID),
        sa.column("version", sa.Integer()),
        sa.column("document", sa.JSON()),
    )
    newest = sa.and_(version.c.segment_id == segment.c.id, version.c.version == segment.c.version)
    joined = task.join(segment, segment.c.id == task.c.segment_id).join(version, newest)
    connection = op.get_bind()
    rows = connection.execute(sa.select(task.c.id, task.c.trigger, version.c.document).select_from(joined)).all()
    for task_id, trigger, document in rows:
        kept = {name: value for name, value in trigger.items() if name != "segment_id"}
        connection.execute(task.update().where(task.c.id == task_id).values(trigger=kept | {"segment": document}))
    op.drop_index("task_of_segment", "task")
    op.drop_column("task", "segment_id")
    op.drop_table("segment_version")
    op.drop_table("segment")
