"""Brings the schema of the database up to date, and says whether it is."""

import pkgutil

import asyncpg
from tortoise.backends.base.config_generator import expand_db_url
from tortoise.context import TortoiseContext
from tortoise.exceptions import BaseORMException
from tortoise.migrations.api import migrate as run_migrations

from image_categorizer_server.db import migrations
from image_categorizer_server.db.database import (
    UNMIGRATED,
    UNREACHABLE,
    connected,
    tls_of,
    tortoise_config,
)
from image_categorizer_server.db.locks import MIGRATION_LOCK
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.settings.database import DatabaseSettings

NEWER = "the database is of a newer version than this program: update the program"


async def schema_problem() -> str:
    """Returns why this program cannot work with the tables; empty if it can.

    Raises:
        DependencyDown: the database does not answer.
    """
    known = {module.name for module in pkgutil.iter_modules(migrations.__path__)}
    async with connected() as connection:
        if not await connection.fetchval("SELECT to_regclass('tortoise_migrations') IS NOT NULL"):
            return UNMIGRATED
        rows = await connection.fetch("SELECT name FROM tortoise_migrations")
    applied = {str(row["name"]) for row in rows}
    if known - applied:
        return UNMIGRATED
    return NEWER if applied - known else ""


async def migrate(url: str, settings: DatabaseSettings) -> None:
    """Applies the migrations that the database lacks.

    Idempotent.  Several processes may call it at once: one migrates, the others wait.

    Raises:
        OperatorError: the database cannot be reached or refuses a migration.
    """
    config = dict(tortoise_config(url, settings))
    credentials = expand_db_url(url)["credentials"]
    address = {key: credentials[key] for key in ("host", "port", "user", "password", "database")}
    try:
        connection = await asyncpg.connect(tls_of(url), **address, timeout=settings.timeout_s)
        try:
            # Tortoise takes no lock.  PostgreSQL releases this one when the connection closes.
            await connection.execute("SELECT pg_advisory_lock($1)", MIGRATION_LOCK)
            async with TortoiseContext():
                await run_migrations(config=config)
        finally:
            await connection.close()
    except (*UNREACHABLE, asyncpg.PostgresError, BaseORMException) as error:
        raise OperatorError(f"Cannot migrate the database: {error}.") from error
