"""What Alembic runs around the revisions: on the connection and in the transaction that `upgrade` opened."""

from __future__ import annotations

from alembic import context

from auth.accounts import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
context.run_migrations()
