"""When each chain was last claimed for, which decides whose turn it is.

Revision: 0012; follows: 0009. Processes of the version before do not write it, which only makes turns less fair while an
upgrade is under way.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0009"
branch_labels = None
depends_on = None

INSTANT = sa.BigInteger().with_variant(sa.DateTime(timezone=True), "postgresql")


def upgrade() -> None:
    """Make the table, empty: every chain that waits goes by how long it has waited."""
    op.create_table(
        "chain_turn",
        sa.Column("chain", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("claimed_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("chain"),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("chain_turn")
