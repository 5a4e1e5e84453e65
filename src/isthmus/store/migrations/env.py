"""Runs migrations in the transaction that ``migrations.migrate`` hands over. Executed by Alembic, never imported."""

from alembic import context

from isthmus.store.columns import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
