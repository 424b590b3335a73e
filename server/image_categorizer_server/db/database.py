"""Opens PostgreSQL, migrates it, and turns its faults into ours."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from tortoise.backends.base.config_generator import expand_db_url
from tortoise.connection import get_connection
from tortoise.context import TortoiseContext
from tortoise.exceptions import BaseORMException, ConfigurationError, DBConnectionError
from tortoise.migrations.api import migrate as run_migrations

from image_categorizer_server.errors import DependencyDown, OperatorError
from image_categorizer_server.settings.database import DatabaseSettings

MODULE = "image_categorizer_server.db"
# Any number will do, as long as no other program of this database takes the same.
MIGRATION_LOCK = 0x1CA7E60
UNREACHABLE = (
    DBConnectionError,
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # of a connection that breaks while it goes back to the pool
    # Classes of errors that pass: of conflicts between transactions, of resources that ran out, of
    # an operator who shuts down, and of a server that was demoted.
    asyncpg.TransactionRollbackError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.ReadOnlySQLTransactionError,
)


def tortoise_config(url: str, settings: DatabaseSettings) -> dict[str, Any]:
    """Returns Tortoise's configuration for a `postgres://` address.

    Raises:
        OperatorError: the address is not one of PostgreSQL.
    """
    try:
        connection = expand_db_url(url)
    except ConfigurationError as error:
        raise OperatorError(
            f"DATABASE_URL is wrong: {error}. It looks like postgres://user:password@host/db."
        ) from None
    connection["engine"] = "tortoise.backends.asyncpg"
    connection["credentials"] |= {
        "minsize": 1,
        "maxsize": settings.pool_size,
        "timeout": settings.timeout_s,
        "command_timeout": settings.timeout_s,
        "application_name": "image-categorizer",
    }
    app = {
        "models": [f"{MODULE}.tables"],
        "migrations": f"{MODULE}.migrations",
        "default_connection": "default",
    }
    return {
        "connections": {"default": connection},
        "apps": {"models": app},
        "use_tz": True,
        "timezone": "UTC",
    }


@asynccontextmanager
async def open_database(url: str, settings: DatabaseSettings) -> AsyncIterator[None]:
    """Makes the tables usable in the current task and in tasks started from it.

    Tortoise keeps its state in a context variable: open before `grpc.aio.Server.start`, in the same
    task, or handlers find no database.  Connects on first use, so that a server can start before
    its database.
    """
    async with TortoiseContext() as context:
        await context.init(config=tortoise_config(url, settings))
        yield


@asynccontextmanager
async def faults_as_ours() -> AsyncIterator[None]:
    """Turns an unreachable database into `DependencyDown`; other faults pass through."""
    try:
        yield
    except UNREACHABLE as error:
        raise DependencyDown("the database does not answer") from error


@asynccontextmanager
async def connected() -> AsyncIterator[Any]:
    """Yields an asyncpg connection, each of whose statements is a transaction of its own.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with faults_as_ours(), get_connection("default").acquire_connection() as connection:
        yield connection


@asynccontextmanager
async def transaction() -> AsyncIterator[Any]:
    """Yields an asyncpg connection; commits what was done with it, or on an error none of it.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection, connection.transaction():
        yield connection


async def check_database() -> None:
    """Asks the database for one row.

    Raises:
        DependencyDown: it does not answer.
    """
    async with faults_as_ours():
        await get_connection("default").execute_query("SELECT 1")


async def answers(url: str, timeout_s: float) -> bool:
    """Returns whether the database accepts connections. Needs no `open_database`."""
    try:
        connection = await asyncpg.connect(url, timeout=timeout_s)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False
    await connection.close()
    return True


async def create_database(url: str, name: str, timeout_s: float) -> None:
    """Creates a database if it does not exist. Needs no `open_database`.

    Args:
        url: address of any database of the same PostgreSQL.
        name: name of the database to create.
        timeout_s: timeout for connecting.

    Raises:
        DependencyDown: PostgreSQL does not answer.
    """
    async with faults_as_ours():
        connection = await asyncpg.connect(url, timeout=timeout_s)
        try:
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
                await connection.execute(f'CREATE DATABASE "{name}"')
        finally:
            await connection.close()


async def migrate(url: str, settings: DatabaseSettings) -> None:
    """Brings the schema up to date; idempotent, and safe to run from several processes at once.

    Raises:
        OperatorError: the database cannot be reached or refuses a migration.
    """
    config = tortoise_config(url, settings)
    credentials = config["connections"]["default"]["credentials"]
    address = {key: credentials[key] for key in ("host", "port", "user", "password", "database")}
    try:
        held = await asyncpg.connect(**address, timeout=settings.timeout_s)
        try:
            # Tortoise takes no lock of its own; this one ends with its connection.
            await held.execute("SELECT pg_advisory_lock($1)", MIGRATION_LOCK)
            async with TortoiseContext():
                await run_migrations(config=config)
        finally:
            await held.close()
    except (*UNREACHABLE, asyncpg.PostgresError, BaseORMException) as error:
        raise OperatorError(f"Cannot migrate the database: {error}.") from error
