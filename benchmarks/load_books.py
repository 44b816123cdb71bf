"""Books of a great many finished jobs, written by SQL: in a file or in PostgreSQL, with the engine's own rows on request."""

from __future__ import annotations

import sqlalchemy as sa

from stablestudio.store.database import Database

_NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :jobs)"
_IDS = {
    "sqlite": "'job_' || printf('%026d', i)",
    "postgresql": "'job_' || lpad(CAST(i AS TEXT), 26, '0')",
}
# Times in milliseconds: the first :due jobs have expired, the others do in a month; each has a picture and a thumbnail.
_ROWS = (
    """INSERT INTO orders {numbers} SELECT {id}, 'eip155:0x' || (i % 5000), 'nano-banana', 'generate',
        '{{"prompt":"a paper boat"}}', 45000, NULL, 3, :now - 1000 * (:jobs - i), NULL FROM n""",
    """INSERT INTO payments {numbers} SELECT 'pay_' || i, {id}, 'x402:eip155:84532', 'key_' || i, 'mark', '{{}}',
        'settled', 'eip155:84532', '0x0', 45000, '0x0', 'tx_' || i, NULL, :now, :now, :now, 'accept' FROM n""",
    """INSERT INTO jobs {numbers} SELECT {id}, 'eip155:0x' || (i % 5000), 'nano-banana-generate', 'complete', 100,
        'sandbox', NULL, 'task_' || i, NULL, NULL, :now, :now, :now, NULL FROM n""",
    *(
        f"INSERT INTO assets {{numbers}} SELECT 'jobs/' || {{id}} || '/{name}', {{id}}, '{role}', 'image/png', 100000,"
        " '', 512, 512, NULL, :now, NULL, CASE WHEN i <= :due THEN i * 10 ELSE :now + 2592000000 END,"
        " NULL, NULL, NULL FROM n"
        for name, role in (("0.png", "result"), ("0.thumb.jpg", "thumbnail"))
    ),
)
_ENGINE_TABLES = ("workflow_status", "operation_outputs")


def fill(database: Database, *, jobs: int, due: int, now: int) -> None:
    """Write so many finished jobs, `due` of them with files that have expired at `now` (ms)."""
    dialect = database.engine.dialect.name
    words = {"numbers": _NUMBERS, "id": _IDS[dialect]}
    terms = {"jobs": jobs, "due": due, "now": now}
    with database.engine.connect() as connection, connection.begin():
        for statement in _ROWS:
            text = statement.format(**words)
            connection.execute(sa.text(text), {name: terms[name] for name in terms if f":{name}" in text})
    tidy(database)


def fill_engine(database: Database, *, jobs: int, like: str) -> None:
    """Write the engine's rows of these jobs, each like those of one that it has finished."""
    schema = None if database.engine.dialect.name == "sqlite" else "dbos"
    place = f"{schema}." if schema else ""
    id_ = _IDS[database.engine.dialect.name]
    with database.engine.connect() as connection, connection.begin():
        for table in _ENGINE_TABLES:
            names = [column["name"] for column in sa.inspect(connection).get_columns(table, schema=schema)]
            chosen = ", ".join(id_ if name == "workflow_uuid" else f't."{name}"' for name in names)
            listed = ", ".join(f'"{name}"' for name in names)
            connection.execute(
                sa.text(
                    f"INSERT INTO {place}{table} ({listed}) {_NUMBERS} "
                    f"SELECT {chosen} FROM n CROSS JOIN {place}{table} t WHERE t.workflow_uuid = :like"
                ),
                {"jobs": jobs, "like": like},
            )
    tidy(database)


def tidy(database: Database) -> None:
    """Let the planner know of what was written, as a database that grew slowly would."""
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("VACUUM ANALYZE")


def size(database: Database) -> tuple[int, int]:
    """Return how many rows all tables have, and how many bytes the database takes with its indexes."""
    with database.engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            names = connection.exec_driver_sql(
                "SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) FROM pg_tables"
                " WHERE schemaname IN ('public', 'dbos')"
            ).scalars()
            bytes_ = connection.exec_driver_sql("SELECT pg_database_size(current_database())").scalar_one()
        else:
            names = connection.exec_driver_sql("SELECT name FROM sqlite_schema WHERE type = 'table'").scalars()
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            bytes_ = pages * connection.exec_driver_sql("PRAGMA page_size").scalar_one()
        rows = sum(connection.exec_driver_sql(f"SELECT count(*) FROM {name}").scalar_one() for name in list(names))
    return int(rows), int(bytes_)
