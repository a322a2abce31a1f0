"""Where attempts push their files to at destinations.

Revision: 0011; follows: 0008. The way back forgets what a killed worker may have left in a customer's bucket.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0008"
branch_labels = None
depends_on = None

INSTANT = sa.BigInteger().with_variant(sa.DateTime(timezone=True), "postgresql")
UNSWEPT = sa.text("push IS NOT NULL AND push_swept_at IS NULL AND outcome <> 'published'")


def upgrade() -> None:
    """Make the columns, and the index the sweeper reads."""
    op.add_column("attempt", sa.Column("push", sa.JSON(), nullable=True))
    op.add_column("attempt", sa.Column("push_swept_at", INSTANT, nullable=True))
    op.create_index(
        "attempt_push_unswept", "attempt", ["ended_at"], postgresql_where=UNSWEPT, sqlite_where=UNSWEPT
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_index("attempt_push_unswept", "attempt")
    op.drop_column("attempt", "push_swept_at")
    op.drop_column("attempt", "push")
