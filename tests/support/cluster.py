"""Servers, workers, PostgreSQL and Redis as processes, which tests kill and restart."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
import psutil
from image_categorizer.v1 import batch_pb2, batch_pb2_grpc
from image_categorizer_server.db.schema import migrate
from image_categorizer_server.domain.access import Role
from image_categorizer_server.local.embedded import EmbeddedPostgres, EmbeddedRedis
from image_categorizer_server.local.installation import Installation
from image_categorizer_server.local.supervisor import ManagedProcess
from image_categorizer_server.rpc.probe import is_ready
from image_categorizer_server.services import key as admin
from image_categorizer_server.settings.database import DatabaseSettings
from image_categorizer_server.tasks import TaskOwner

from tests.conftest import EXPORTS
from tests.support.database import connect_as_owner, ensure_tenants, open_for_all_tenants
from tests.support.ledger import Ledger, Picture
from tests.support.polling import elapsed, eventually

COMMAND = [sys.executable, "-m", "image_categorizer_server"]
SERVER = [*COMMAND, "serve"]
WORKERS = [*COMMAND, "worker"]
WORKER = [sys.executable, "-m", "image_categorizer_workers"]
READY_S = 60.0
RESTART_DELAY_S = 0.2
TABLES = (
    "batches, batch_items, batch_chunks, batch_results, batch_uploads, outbox, webhook_deliveries"
)
# Shorter than the defaults, so that tests do not wait long.
QUICK = {
    "CATEGORIZER_WORKER__LEASE_S": "2",
    "CATEGORIZER_WORKER__SWEEP_INTERVAL_S": "0.5",
    "CATEGORIZER_WORKER__POLL_INTERVAL_S": "0.5",
    "CATEGORIZER_WORKER__PATIENCE_S": "5",
    "CATEGORIZER_DATABASE__TIMEOUT_S": "2",
}


@dataclass
class Cluster:
    """The processes of a test, and how to start and end them."""

    postgres: EmbeddedPostgres
    redis: EmbeddedRedis
    managed_postgres: ManagedProcess
    managed_redis: ManagedProcess
    folder: Path
    sockets: Path
    api_key: str = ""
    """Of a classifier."""
    worker_key: str = ""
    redis_process: subprocess.Popen[bytes] | None = None
    postgres_process: subprocess.Popen[bytes] | None = None
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    """Servers and workers."""
    variables: dict[str, str] = field(default_factory=lambda: dict(QUICK))
    """Settings of the processes that are started from now on."""

    @property
    def address(self) -> str:
        """The server's address."""
        return f"unix:{self.sockets}/server.sock"

    @property
    def images(self) -> Path:
        return self.folder / "images"

    @property
    def redis_data(self) -> Path:
        return self.folder / "redis"

    async def prepare(self) -> None:
        """Starts the stores and creates tables and API keys."""
        await self.start_postgres()
        await self.postgres.create_database()
        await self.start_redis()
        owner = DatabaseSettings(owner_url=self.postgres.owner_url)
        await migrate(self.postgres.url, owner)
        async with open_for_all_tenants(self.postgres.url):
            self.api_key = (await admin.create_key("test", Role.CLASSIFIER)).secret
            self.worker_key = (await admin.create_key("workers", Role.WORKER)).secret

    async def reset(self) -> None:
        """Empties the stores, and forgets logs and settings of the test before."""
        self.variables = dict(QUICK)
        await self.empty()
        for name in ("server", "worker", "workers"):
            (self.folder / f"{name}.log").unlink(missing_ok=True)

    async def empty(self) -> None:
        """Removes all batches and images, and all tenants but `default`."""
        await self.execute(f"TRUNCATE {TABLES}")
        for table in ("api_keys", "tenants"):
            await self.execute(f"DELETE FROM {table} WHERE tenant_id <> 'default'")
        for folder in self.images.glob("*"):
            shutil.rmtree(folder)

    def environment(self, **variables: str) -> dict[str, str]:
        return {
            **os.environ,
            "DATABASE_URL": self.postgres.url,
            "REDIS_URL": self.redis.url,
            "MODEL_PATH": str(self.folder / "models"),
            "LOG_LEVEL": "INFO",
            "CATEGORIZER_LOG_FORMAT": "console",
            "CATEGORIZER_STORAGE__PATH": str(self.images),
            "CATEGORIZER_MODELS__CACHE_PATH": str(EXPORTS),
            "CATEGORIZER_MODELS__DEFAULT": "fake",
            "CATEGORIZER_MODELS__PACKAGED": "false",
            "CATEGORIZER_SERVER__BIND": self.address,
            "CATEGORIZER_TEST__FAKE_MODEL": "0,0",
            "CATEGORIZER_CLIENT__BASE_URL": self.address,
            "CATEGORIZER_CLIENT__API_KEY": self.worker_key,
            "CATEGORIZER_CACHE__TTL_S": "0",
            **self.variables,
            **variables,
        }

    def start(self, command: list[str], name: str, **variables: str) -> subprocess.Popen[bytes]:
        """Starts a process that logs to `<name>.log`."""
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(command, env=self.environment(**variables), stderr=log)
        self.processes.append(process)
        return process

    async def start_server(self, **variables: str) -> subprocess.Popen[bytes]:
        """Starts a server and waits until it is ready."""
        server = self.start(SERVER, "server", **variables)

        async def is_serving() -> bool:
            assert server.poll() is None, self.log("server")
            return await is_ready(self.address)

        await self._eventually(is_serving, READY_S, "server")
        return server

    @asynccontextmanager
    async def restarting_server(self, **variables: str) -> AsyncIterator[list[float]]:
        """Runs a server during the block, and restarts it after each crash.

        Yields the times of the crashes, by `time.monotonic`.
        """
        server = await self.start_server(**variables)
        crashes_s: list[float] = []

        async def restart() -> None:
            nonlocal server
            while True:
                status = await asyncio.to_thread(server.wait)
                assert status == -signal.SIGKILL, self.log("server")[-3000:]
                crashes_s.append(time.monotonic())
                await elapsed(RESTART_DELAY_S)
                server = await self.start_server(**variables)

        async with TaskOwner() as tasks:
            tasks.start(restart(), "restart of the server")
            try:
                yield crashes_s
                tasks.check()
            finally:
                await tasks.close()
                server.kill()  # otherwise the thread that waits for it delays the end

    def start_workers(self, count: int, **variables: str) -> subprocess.Popen[bytes]:
        """Starts `image-categorizer worker`, which restarts its worker processes."""
        return self.start(WORKERS, "workers", **{"WORKER_COUNT": str(count), **variables})

    def start_worker(self, **variables: str) -> subprocess.Popen[bytes]:
        """Starts one worker process, which nothing restarts."""
        return self.start(WORKER, "worker", **variables)

    def run(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Runs an `image-categorizer` command to its end."""
        environment = self.environment(**variables)
        return subprocess.run(
            [*COMMAND, *words], env=environment, capture_output=True, text=True, check=False
        )

    def log(self, name: str) -> str:
        file = self.folder / f"{name}.log"
        return file.read_text() if file.exists() else ""

    async def submit(
        self, ledger: Ledger, pictures: list[Picture], **options: object
    ) -> batch_pb2.Batch:
        """Creates a batch, and enters it in the ledger once it is acknowledged."""
        items = [batch_pb2.BatchItem(image=p.content, filename=p.name) for p in pictures]
        request = batch_pb2.CreateBatchRequest(items=items, **options)  # type: ignore[arg-type]
        ledger.submitted(pictures)
        batch: batch_pb2.Batch = await self.call("CreateBatch", request)
        ledger.acknowledged(batch.batch_id, len(pictures))
        return batch

    async def call(self, method: str, request: object, timeout_s: float = 30) -> Any:
        """Calls a method of BatchService."""
        async with grpc.aio.insecure_channel(self.address) as channel:
            stub = batch_pb2_grpc.BatchServiceStub(channel)
            headers = (("authorization", f"Bearer {self.api_key}"),)
            return await getattr(stub, method)(request, metadata=headers, timeout=timeout_s)

    async def key_of(self, tenant_id: str) -> str:
        """Creates an API key of another tenant."""
        async with open_for_all_tenants(self.postgres.url):
            await ensure_tenants(tenant_id)
            return (await admin.create_key("other", Role.CLASSIFIER, tenant_id)).secret

    async def as_tenant(self, tenant_id: str) -> "Cluster":
        """Returns the same cluster with the API key of another tenant."""
        return replace(self, api_key=await self.key_of(tenant_id))

    async def drained(self, within_s: float) -> float:
        """Waits until no work is pending. Returns how many seconds that took."""
        start_s = time.monotonic()
        done = await asyncio.to_thread(self.run, "drained", "--timeout", str(within_s))
        assert done.returncode == 0, f"{done.stderr}\n{self.log('workers')[-3000:]}"
        return time.monotonic() - start_s

    async def execute(self, statements: str) -> None:
        """Runs SQL statements."""
        connection = await connect_as_owner(self.postgres.url)
        try:
            await connection.execute(statements)
        finally:
            await connection.close()

    async def row(self, query: str) -> Any:
        """Returns the first row of a query."""
        connection = await connect_as_owner(self.postgres.url)
        try:
            return await connection.fetchrow(query)
        finally:
            await connection.close()

    async def value(self, query: str) -> Any:
        """Returns the first column of the first row of a query."""
        return (await self.row(query))[0]

    async def until(self, query: str, within_s: float) -> None:
        """Waits until a query returns true."""

        async def is_true() -> bool:
            return bool(await self.value(query))

        await self._eventually(is_true, within_s, "workers")

    async def start_redis(self) -> None:
        self.redis_data.mkdir(exist_ok=True)
        with (self.folder / "redis.log").open("ab") as log:
            self.redis_process = subprocess.Popen(  # noqa: ASYNC220 - returns at once
                self.managed_redis.command, stdout=log
            )
        await self._eventually(self.managed_redis.is_ready, READY_S, "redis")

    async def stop_redis(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.redis_process:
            await self.end(self.redis_process, how)
        self.redis_process = None

    async def start_postgres(self) -> None:
        managed = self.managed_postgres
        with (self.folder / "postgres.log").open("ab") as log:
            self.postgres_process = subprocess.Popen(  # noqa: ASYNC220 - returns at once
                managed.command, stderr=log, user=managed.user, cwd=managed.folder
            )
        await self._eventually(managed.is_ready, READY_S, "postgres")

    async def stop_postgres(self, how: signal.Signals) -> None:
        """Ends PostgreSQL. After SIGKILL its child processes end by themselves."""
        if self.postgres_process:
            await self.end(self.postgres_process, how)
        self.postgres_process = None

    async def end(self, process: subprocess.Popen[bytes], how: signal.Signals) -> int:
        """Sends a signal, waits for the end and returns the exit status."""
        process.send_signal(how)
        return await asyncio.to_thread(process.wait, 60)

    def end_all(self) -> None:
        """Kills servers and workers with their children."""
        for process in self.processes:
            if process.poll() is None:
                for child in psutil.Process(process.pid).children(recursive=True):
                    child.kill()
                process.kill()
                process.wait(10)
        self.processes.clear()

    async def _eventually(
        self, condition: Callable[[], object], within_s: float, log_name: str
    ) -> None:
        """Waits for a condition. A failure shows the end of a log."""
        try:
            await eventually(condition, within_s, 0.05)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log(log_name)[-3000:]}") from None


@asynccontextmanager
async def open_cluster(data: Path) -> AsyncIterator[Cluster]:
    """Yields a cluster with running stores."""
    installation = Installation(data)
    installation.prepare()
    postgres, redis = EmbeddedPostgres(installation), EmbeddedRedis(installation)
    cluster = Cluster(
        postgres, redis, await postgres.process(), redis.process(), data, installation.sockets
    )
    try:
        await cluster.prepare()
        yield cluster
    finally:
        cluster.end_all()
        await cluster.stop_redis()
        await cluster.stop_postgres(signal.SIGINT)
