"""Alembic's environment. `outboxd.store.migrator` provides everything by `config.attributes`."""

from alembic import context

from outboxd.store.ddl import Steps
from outboxd.store.version import version_table

given = context.config.attributes
names = given["names"]
connection = given.get("connection")

if context.is_offline_mode():
    context.configure(dialect_name="mysql", literal_binds=True, version_table=version_table(names))
    run = context.execute
else:
    context.configure(
        connection=connection,
        version_table=version_table(names),
        transactional_ddl=False,
        on_version_apply=given["on_apply"],
    )
    run = connection.exec_driver_sql

with context.begin_transaction():
    context.run_migrations(
        steps=Steps(names, run, connection, report=given["report"], patience=given["patience"]),
    )
