"""Brings the schema of the database up to date, and says whether it is."""

import pkgutil
from typing import cast

import asyncpg
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
from image_categorizer_server.db.engine import SCOPE_PARAMETER
from image_categorizer_server.db.isolation import TENANT_TABLES, grant_access, protect_tables
from image_categorizer_server.db.locks import MIGRATION_LOCK
from image_categorizer_server.domain.tenant import EVERY_TENANT
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.settings.database import DatabaseSettings

# Longest time for one statement of a migration.
MIGRATION_S = 3600.0
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
        tables = await connection.fetch(TENANT_TABLES)
    applied = {str(row["name"]) for row in rows}
    if known - applied or not all(table["is_protected"] for table in tables):
        return UNMIGRATED
    return NEWER if applied - known else ""


async def migrate(url: str, settings: DatabaseSettings) -> None:
    """Applies the migrations that the database lacks, and protects its tables.

    Idempotent.  Several processes may call it at once: one migrates, the others wait.

    Args:
        url: address of the database for the programs.
        settings: may have another address for the owner of the tables.

    Raises:
        OperatorError: the database cannot be reached or refuses a migration.
    """
    owner_url = settings.owner_url or url
    # A migration may rewrite a table with millions of rows.
    patient = settings.model_copy(update={"timeout_s": MIGRATION_S})
    config = tortoise_config(owner_url, patient)
    credentials = cast("dict[str, object]", config["connections"]["default"]["credentials"])
    # The default of its sessions, because Tortoise opens transactions of its own.
    parameters = credentials["server_settings"] = {SCOPE_PARAMETER: EVERY_TENANT}
    address = {key: credentials[key] for key in ("host", "port", "user", "password", "database")}
    try:
        connection = await asyncpg.connect(
            tls_of(owner_url), **address, server_settings=parameters, timeout=settings.timeout_s
        )
        try:
            # Tortoise takes no lock.  PostgreSQL releases this one when the connection closes.
            await connection.execute("SELECT pg_advisory_lock($1)", MIGRATION_LOCK)
            async with TortoiseContext():
                await run_migrations(config=dict(config))
            await protect_tables(connection)
            await grant_access(connection, owner_url, url)
        finally:
            await connection.close()
    except (*UNREACHABLE, asyncpg.PostgresError, BaseORMException) as error:
        raise OperatorError(f"Cannot migrate the database: {error}.") from error
