"""How alembic reaches the database: over the connection that `Database.migrate` hands it."""

from alembic import context

from pipelines.records import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    compare_type=True,
    render_as_batch=True,  # SQLite alters a table by copying it
)
with context.begin_transaction():
    context.run_migrations()
