"""Connections to PostgreSQL, and its faults as `DependencyDown`."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Protocol, TypedDict, TypeVar, cast
from urllib.parse import parse_qsl, urlencode, urlsplit

import asyncpg
from tortoise.backends.base.config_generator import expand_db_url
from tortoise.connection import get_connection
from tortoise.context import TortoiseContext
from tortoise.exceptions import ConfigurationError, DBConnectionError, OperationalError

from image_categorizer_server.db import engine
from image_categorizer_server.errors import DependencyDown, OperatorError
from image_categorizer_server.settings.database import DatabaseSettings

MODULE = "image_categorizer_server.db"
# Longest time for a statement that touches every item of a batch.
BULK_TIMEOUT_S = 300.0
UNMIGRATED = "the database lacks tables of this version: run `image-categorizer migrate`"
MISSING = (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError)
UNREACHABLE = (
    DBConnectionError,
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection fails while it returns to the pool
    # Transient error classes: transaction conflicts, exhausted resources, an operator's shutdown,
    # and a server that was demoted to a replica.
    asyncpg.TransactionRollbackError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.ReadOnlySQLTransactionError,
    # Until the first `migrate`, neither the role nor the database may be there.
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)

# Parameters of an address that say how a connection is encrypted, as libpq names them.
TLS_PARAMETERS = "sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "sslpassword"

Row = Mapping[str, object]
"""A row of any query.  `tables.py` has a type for the rows of each table."""


class Connection(Protocol):
    """The part of an asyncpg connection that is in use; asyncpg is published without types."""

    async def execute(self, query: str, *values: object, timeout: float | None = None) -> str:
        """Runs a statement; returns its command tag, such as `UPDATE 1`."""
        ...

    async def fetch(
        self, query: str, *values: object, timeout: float | None = None
    ) -> Sequence[Row]:
        """Runs a statement; returns its rows."""
        ...

    async def fetchrow(
        self, query: str, *values: object, timeout: float | None = None
    ) -> Row | None:
        """Runs a statement; returns its first row, None if there is none."""
        ...

    async def fetchval(self, query: str, *values: object, timeout: float | None = None) -> object:
        """Runs a statement; returns the first value of its first row, None if there is none."""
        ...

    async def fetchmany(
        self, query: str, values: Sequence[Sequence[object]], *, timeout: float | None = None
    ) -> Sequence[Row]:
        """Runs a statement for each of many values, at once; returns all rows."""
        ...

    async def executemany(
        self, query: str, values: Sequence[Sequence[object]], *, timeout: float | None = None
    ) -> None:
        """Runs a statement for each of many values, at once."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[object]:
        """Returns a block that is one transaction."""
        ...


class TortoiseConfig(TypedDict):
    """The configuration of Tortoise."""

    connections: dict[str, dict[str, object]]
    apps: dict[str, dict[str, object]]
    use_tz: bool
    timezone: str


def tortoise_config(url: str, settings: DatabaseSettings) -> TortoiseConfig:
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
    for name in TLS_PARAMETERS:
        connection["credentials"].pop(name, None)
    connection["engine"] = engine.MODULE
    connection["credentials"] |= {
        "minsize": 1,
        "maxsize": settings.pool_size,
        "timeout": settings.timeout_s,
        "command_timeout": settings.timeout_s,
        "application_name": "image-categorizer",
        "dsn": tls_of(url),
    }
    app: dict[str, object] = {
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


def tls_of(url: str) -> str:
    """Returns how connections to an address are encrypted, as a `dsn` of asyncpg and no more.

    Tortoise knows no such parameter, and asyncpg takes most of them in an address only.
    """
    given = dict(parse_qsl(urlsplit(url).query))
    return f"postgres://?{urlencode({k: v for k, v in given.items() if k in TLS_PARAMETERS})}"


@asynccontextmanager
async def open_database(url: str, settings: DatabaseSettings) -> AsyncIterator[None]:
    """Makes the database usable in the current task and in the tasks that it starts.

    Tortoise keeps its state in a context variable.  Open the database before
    `grpc.aio.Server.start`, in the same task, or the handlers do not find it.  The first use
    connects, so a server can start before its database.
    """
    async with TortoiseContext() as context:
        await context.init(config=dict(tortoise_config(url, settings)))
        yield


def pool_in_use() -> Callable[[], int]:
    """Returns what counts the connections of the open database's pool that are in use.

    It may be called from any thread.
    """
    client = cast("engine.Client", get_connection("default"))
    return lambda: client.in_use


@asynccontextmanager
async def translated_faults() -> AsyncIterator[None]:
    """Turns a database that is unreachable, or not migrated, into `DependencyDown`.

    Other faults pass through.
    """
    try:
        yield
    except UNREACHABLE as error:
        raise DependencyDown("the database does not answer") from error
    except MISSING as error:
        raise DependencyDown(UNMIGRATED) from error
    except OperationalError as error:  # of Tortoise
        if isinstance(error.__cause__, MISSING):
            raise DependencyDown(UNMIGRATED) from error
        raise


@asynccontextmanager
async def connected() -> AsyncIterator[Connection]:
    """Yields a connection that commits each statement by itself.

    It sees the rows of the current tenant scope: see `domain/tenant.py`.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with translated_faults(), get_connection("default").acquire_connection() as connection:
        yield connection


class Ending(Protocol):
    """What a transaction does last, right before its commit."""

    async def run(self, connection: Connection) -> None:
        """Runs its statements."""
        ...


SomeEnding = TypeVar("SomeEnding", bound=Ending)
# Of the open transactions, by their connections.
_endings: dict[Connection, dict[type[Ending], Ending]] = {}


def ending_of(connection: Connection, kind: type[SomeEnding]) -> SomeEnding:
    """Returns what the open transaction of a connection does last, of one kind; new at first.

    Raises:
        RuntimeError: neither `transaction` nor `transaction_on` has begun the transaction.
    """
    if connection not in _endings:
        raise RuntimeError("the connection has no transaction open")
    found = _endings[connection].setdefault(kind, kind())
    assert isinstance(found, kind)
    return found


@contextmanager
def _with_endings(connection: Connection) -> Iterator[dict[type[Ending], Ending]]:
    endings = _endings[connection] = {}
    try:
        yield endings
    finally:
        del _endings[connection]


@asynccontextmanager
async def transaction() -> AsyncIterator[Connection]:
    """Yields a connection within a transaction, which an error rolls back.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        block = connection.transaction()
        await block.__aenter__()
        with _with_endings(connection) as endings:
            yield connection
            for ending in endings.values():
                await ending.run(connection)
        # After an error the pool rolls back, when it takes the connection: nobody waits for that.
        await block.__aexit__(None, None, None)


@asynccontextmanager
async def transaction_on(connection: Connection) -> AsyncIterator[None]:
    """Makes the block one transaction of a connection that is used further."""
    async with connection.transaction():
        with _with_endings(connection) as endings:
            yield
            for ending in endings.values():
                await ending.run(connection)


async def check_database() -> None:
    """Passes if the database answers a query.

    Raises:
        DependencyDown: the database does not answer.
    """
    async with connected() as connection:
        await connection.fetchval("SELECT 1")


async def check_login(url: str, timeout_s: float) -> None:
    """Opens a new connection and closes it. Needs no `open_database`.

    Passes a database that has no connections left: it knows us, and pooled connections still work.

    Raises:
        DependencyDown: the database does not answer, or refuses the user or the password.
    """
    try:
        connection = await asyncpg.connect(url, timeout=timeout_s)
        await connection.close(timeout=timeout_s)
    except asyncpg.TooManyConnectionsError:
        return
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise DependencyDown("the database does not answer") from error


async def answers(url: str, timeout_s: float) -> bool:
    """Returns whether the database accepts connections. Needs no `open_database`."""
    try:
        connection = await asyncpg.connect(url, timeout=timeout_s)
        await connection.close(timeout=timeout_s)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False
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
    async with translated_faults():
        connection = await asyncpg.connect(url, timeout=timeout_s)
        try:
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
                await connection.execute(f'CREATE DATABASE "{name}"')
        finally:
            await connection.close(timeout=timeout_s)
