"""A real PostgreSQL and Redis, started once, and a real server on a unix socket."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import asyncpg
import pytest
from grpc_health.v1 import health
from image_categorizer import AsyncImageCategorizationClient
from image_categorizer_server import clock
from image_categorizer_server.backend import Backend, open_backend
from image_categorizer_server.db.schema import migrate
from image_categorizer_server.domain.access import DEFAULT_TENANT, Role
from image_categorizer_server.domain.tenant import all_tenants
from image_categorizer_server.inference.models.repository import Repository
from image_categorizer_server.local.embedded import EmbeddedPostgres, EmbeddedRedis
from image_categorizer_server.local.installation import Installation
from image_categorizer_server.local.supervisor import ManagedProcess, Supervisor
from image_categorizer_server.rpc.server import build_server
from image_categorizer_server.services import key as admin
from image_categorizer_server.services.batch import Batches
from image_categorizer_server.settings import Settings
from image_categorizer_server.settings.batch import BatchSettings
from image_categorizer_server.settings.database import DatabaseSettings
from image_categorizer_server.stores.object_store import MemoryStorage

from tests.conftest import EXPORTS
from tests.support import invariants as ledger
from tests.support.audit_tools import forger_of
from tests.support.batch_tools import category_of
from tests.support.database import (
    DEFAULT_TENANT_ROW,
    connect_as_owner,
    ensure_tenants,
    open_for_all_tenants,
)
from tests.support.hosts import ALLOWED, PRIVATE, Canary, DnsServer, running_canary
from tests.support.registries import load_every_model
from tests.support.tiny_model import write_tiny_model
from tests.unit.conftest import add


class Store:
    """A store as a process that tests stop and start again."""

    def __init__(self, url: str, process: ManagedProcess, logs: Path) -> None:
        self.url = url
        self._process = process
        self._logs = logs
        self._supervisor = Supervisor(print, logs)

    async def start(self) -> None:
        """Starts the process. Returns when it is ready."""
        self._supervisor = Supervisor(print, self._logs)
        await self._supervisor.start(self._process)

    async def stop(self) -> None:
        """Stops the process as `up` does."""
        await self._supervisor.stop()

    async def kill(self) -> None:
        """Kills the process."""
        self._supervisor.kill()
        await self._supervisor.stop()


@dataclass(frozen=True)
class Stores:
    """Running stores."""

    postgres: Store
    redis: Store
    installation: Installation


@pytest.fixture(scope="session")
async def stores(clean_environment, tmp_path_factory) -> AsyncIterator[Stores]:
    installation = Installation(tmp_path_factory.mktemp("stores"))
    installation.prepare()
    embedded, redis = EmbeddedPostgres(installation), EmbeddedRedis(installation)
    process = await embedded.process()
    # Without fsync: the data need not survive a crash of the machine.
    unsynced = replace(process, command=[*process.command, "-c", "fsync=off"])
    running = Stores(
        Store(embedded.url, unsynced, installation.logs),
        Store(redis.url, redis.process(), installation.logs),
        installation,
    )
    try:
        await running.postgres.start()
        await embedded.create_database()
        await running.redis.start()
        await migrate(embedded.url, DatabaseSettings(owner_url=embedded.owner_url))
        yield running
    finally:
        await running.redis.stop()
        await running.postgres.stop()


@pytest.fixture
async def empty_database(stores) -> str:
    """The address of the database, with all tables empty, but for the tenant `default`."""
    connection = await connect_as_owner(stores.postgres.url)
    tables = await connection.fetchval(
        "SELECT string_agg(tablename, ', ') FROM pg_tables"
        " WHERE schemaname = 'public' AND tablename <> 'tortoise_migrations'"
    )
    # A trigger protects the audit log from TRUNCATE. This disables it.
    await connection.execute("SET session_replication_role = replica")
    await connection.execute(f"TRUNCATE {tables}")
    await connection.execute(DEFAULT_TENANT_ROW)
    await connection.close()
    return str(stores.postgres.url)


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Path:
    """The files of the default model: untrained, of four categories."""
    return write_tiny_model(tmp_path_factory.mktemp("small"), ["ant", "bee", "cat", "dog"])


@pytest.fixture
def settings(stores, empty_database, small, tmp_path) -> Settings:
    add(Repository(tmp_path / "models"), small, "small")
    return Settings(
        DATABASE_URL=empty_database,
        REDIS_URL=stores.redis.url,
        MODEL_PATH=tmp_path / "models",
        storage={"path": tmp_path / "images"},
        server={"bind": f"unix:{stores.installation.sockets}/test.sock", "drain_s": 5},
        models={
            "cache_path": EXPORTS,
            "default": "small",
            "packaged": False,
            "scan_interval_s": 0.1,
        },
        security={"key_cache_s": 0.2},
        database={"timeout_s": 20},
        cache={"ttl_s": 0},  # repeated requests are classified again
    )


@dataclass
class Running:
    """A running server, and API keys for it."""

    backend: Backend
    address: str
    key: Callable[..., Awaitable[str]]
    """Creates a key with a role, of the tenant `default` or another one."""
    health: health.aio.HealthServicer
    """Of grpc.health.v1. Nothing updates it."""

    async def client(
        self, role: Role = Role.CLASSIFIER, **options
    ) -> AsyncImageCategorizationClient:
        return AsyncImageCategorizationClient(await self.key(role), self.address, **options)


@asynccontextmanager
async def running_server(
    settings: Settings,
    load: bool = True,
    change: Callable[[Backend], Backend] = lambda backend: backend,
) -> AsyncIterator[Running]:
    """Runs a server in this process, on a unix socket.

    Args:
        settings: of the server.
        load: whether to load the models.
        change: replaces parts of the backend, for example by `dataclasses.replace`.
    """
    async with AsyncExitStack() as stack:
        backend = change(await stack.enter_async_context(open_backend(settings)))
        server, health_servicer = build_server(backend)
        server.add_insecure_port(settings.server.bind)
        await server.start()
        stack.push_async_callback(server.stop, 0)
        if load:
            await load_every_model(backend.registry)

        async def key(role: Role, tenant_id: str = DEFAULT_TENANT) -> str:
            await ensure_tenants(tenant_id)
            name = f"test {role.name}"
            return (await admin.create_key(name, role, tenant_id=tenant_id)).secret

        # The server and its tasks began without a tenant; the test may look at any.
        stack.enter_context(all_tenants())
        yield Running(backend, settings.server.bind, key, health_servicer)


@pytest.fixture
async def server(settings) -> AsyncIterator[Running]:
    async with running_server(settings) as running:
        yield running


@pytest.fixture
async def every_tenant(server) -> AsyncIterator[None]:
    """Lets a test see the rows of all tenants. The server, which is there before, does not."""
    with all_tenants():
        yield


@pytest.fixture
async def client(server) -> AsyncIterator[AsyncImageCategorizationClient]:
    async with await server.client() as ready:
        yield ready


@pytest.fixture
async def database(empty_database) -> AsyncIterator[None]:
    async with open_for_all_tenants(empty_database):
        yield


@pytest.fixture
def emptied(database, empty_database) -> str:
    """The address of the empty database, which is also open in this process."""
    return str(empty_database)


@pytest.fixture
def as_forger(emptied) -> Callable[[], AbstractAsyncContextManager[asyncpg.Connection]]:
    """Connects with all rights, without triggers."""
    return partial(forger_of, emptied)


@pytest.fixture
def storage() -> MemoryStorage:
    return MemoryStorage()


@pytest.fixture
def batches(database, storage) -> Batches:
    """Batches in chunks of four items, with images stored in memory."""
    return Batches(storage, BatchSettings(chunk_items=4, watch_interval_s=0.01), 1000)


@pytest.fixture
def faultless(empty_database, storage) -> Callable[..., Awaitable[None]]:
    """Asserts that the ledger has no faults."""

    async def check(**options):
        found = await ledger.find_faults(
            empty_database, storage=storage, category_of=category_of, **options
        )
        assert found == []

    return check


@pytest.fixture(autouse=True)
def restored_clock() -> Iterator[None]:
    yield
    clock.shift(0)


@pytest.fixture
async def names() -> AsyncIterator[DnsServer]:
    """A DNS server with one public host."""
    names = DnsServer()
    names.records["photos.test"] = [ALLOWED]
    async with names.running():
        yield names


@pytest.fixture
async def canary() -> AsyncIterator[Canary]:
    """Listens on private addresses. A test that connects to it fails."""
    async with running_canary(PRIVATE, "::1", "127.0.0.3") as canary:
        yield canary
        assert canary.accepts == 0


async def collected(results, into):
    """Adds the keys of results to a list, which keeps them if the stream fails."""
    async for result in results:
        into.append(result.key)
