"""Brings the schema of the database up to date."""

import asyncpg
from tortoise.backends.base.config_generator import expand_db_url
from tortoise.context import TortoiseContext
from tortoise.exceptions import BaseORMException
from tortoise.migrations.api import migrate as run_migrations

from image_categorizer_server.db.database import UNREACHABLE, tortoise_config
from image_categorizer_server.db.locks import MIGRATION_LOCK
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.settings.database import DatabaseSettings


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
        connection = await asyncpg.connect(**address, timeout=settings.timeout_s)
        try:
            # Tortoise takes no lock.  PostgreSQL releases this one when the connection closes.
            await connection.execute("SELECT pg_advisory_lock($1)", MIGRATION_LOCK)
            async with TortoiseContext():
                await run_migrations(config=config)
        finally:
            await connection.close()
    except (*UNREACHABLE, asyncpg.PostgresError, BaseORMException) as error:
        raise OperatorError(f"Cannot migrate the database: {error}.") from error
