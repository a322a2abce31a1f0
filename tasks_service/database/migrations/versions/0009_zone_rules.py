"""By which rules of its zone the next occurrence of a task was computed, and those rules themselves.

Revision: 0009; follows: 0011. The table of the same name that 0004 made was never written.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0011"
branch_labels = None
depends_on = None

INSTANT = sa.BigInteger().with_variant(sa.DateTime(timezone=True), "postgresql")


def _where(condition: str) -> dict[str, Any]:
    return {"postgresql_where": sa.text(condition), "sqlite_where": sa.text(condition)}


def upgrade() -> None:
    """Make the table anew, and note on each task which of its rows it was computed by: of those there are, none."""
    op.drop_table("zone_rules")
    op.create_table(
        "zone_rules",
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("release", sa.String(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("noted_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("fingerprint"),
    )
    op.create_index("zone_rules_of", "zone_rules", ["name"])
    op.add_column("task", sa.Column("zone_rules", sa.String(), nullable=True))
    op.create_index("task_zone_rules", "task", ["zone_rules", "id"], **_where("next_run_at IS NOT NULL"))


def downgrade() -> None:
    """Go back to the table as it was: empty."""
    op.drop_index("task_zone_rules", "task")
    op.drop_column("task", "zone_rules")
    op.drop_table("zone_rules")
    op.create_table(
        "zone_rules",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("start_at", INSTANT, nullable=False),
        sa.Column("end_at", INSTANT, nullable=False),
        sa.Column("offsets", sa.JSON(), nullable=False),
        sa.Column("noted_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
