"""The tables of the engine that wakes workers on many machines: PostgreSQL only, in a schema of their own.

Revision: 0005; follows: 0002. The SQL is the engine's own, from its installed package; which version made the tables is
noted beside them, and a process that is to use them refuses others. SQLite has no wake-ups: workers poll.
"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make them."""
    if op.get_bind().dialect.name == "postgresql":
        from tasks_service.executors import procrastinate_schema

        procrastinate_schema.create(op.get_bind())


def downgrade() -> None:
    """Drop them; messages on their way are lost, and workers find their runs by looking."""
    if op.get_bind().dialect.name == "postgresql":
        from tasks_service.executors import procrastinate_schema

        procrastinate_schema.drop(op.get_bind())
