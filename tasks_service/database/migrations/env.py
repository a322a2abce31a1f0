"""Alembic's entry: runs the revisions on the connection and in the transaction that schema.py opened."""

from __future__ import annotations

from alembic import context

from tasks_service.database import models, part_models, turn_models

for table in (part_models.Plan, turn_models.ChainTurn):
    assert table.metadata is models.SQLModel.metadata  # noqa: S101 -- all modules are one schema

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=models.SQLModel.metadata,
    render_as_batch=True,  # SQLite alters a table by making it anew
)
context.run_migrations()
