"""A server and workers in processes of their own, on real stores, for tests that kill them."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import psutil
from image_categorizer.v1 import batch_pb2, batch_pb2_grpc
from image_categorizer_server.db.database import open_database
from image_categorizer_server.db.schema import migrate
from image_categorizer_server.domain.access import Role
from image_categorizer_server.local.embedded import EmbeddedPostgres, EmbeddedRedis
from image_categorizer_server.local.installation import Installation
from image_categorizer_server.local.supervisor import ManagedProcess
from image_categorizer_server.rpc.health import is_ready
from image_categorizer_server.services import key as admin
from image_categorizer_server.settings.database import DatabaseSettings

from tests.conftest import EXPORTS
from tests.support.ledger import Ledger, Picture
from tests.support.polling import elapsed

SERVER = [sys.executable, "-m", "image_categorizer_server", "serve"]
WORKERS = [sys.executable, "-m", "image_categorizer_server", "worker"]
WORKER = [sys.executable, "-m", "image_categorizer_workers"]
COMMAND = [sys.executable, "-m", "image_categorizer_server"]
READY_S = 60.0
TABLES = (
    "batches, batch_items, batch_chunks, batch_results, batch_uploads, outbox, webhook_deliveries"
)
# Short, so that a test need not wait for what production waits for.
QUICK = {
    "CATEGORIZER_WORKER__LEASE_S": "2",
    "CATEGORIZER_WORKER__SWEEP_INTERVAL_S": "0.5",
    "CATEGORIZER_WORKER__POLL_INTERVAL_S": "0.5",
    "CATEGORIZER_WORKER__PATIENCE_S": "5",
    "CATEGORIZER_DATABASE__TIMEOUT_S": "2",
}


@dataclass
class Cluster:
    """Starts and stops the stores, servers and workers of one test installation."""

    postgres: EmbeddedPostgres
    redis: EmbeddedRedis
    redis_service: ManagedProcess
    postgres_service: ManagedProcess
    folder: Path
    sockets: Path
    api_key: str = ""
    worker_key: str = ""
    redis_process: subprocess.Popen[bytes] | None = None
    postgres_process: subprocess.Popen[bytes] | None = None
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=lambda: dict(QUICK))
    """Settings of what is started from now on."""

    @property
    def address(self) -> str:
        return f"unix:{self.sockets}/server.sock"

    @property
    def images(self) -> Path:
        return self.folder / "images"

    @property
    def redis_data(self) -> Path:
        return self.folder / "redis"

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
            "CATEGORIZER_SERVER__BIND": self.address,
            "CATEGORIZER_TEST__FAKE_MODEL": "0,0",
            "CATEGORIZER_CLIENT__BASE_URL": self.address,
            "CATEGORIZER_CLIENT__API_KEY": self.worker_key,
            "CATEGORIZER_CACHE__TTL_S": "0",
            **self.variables,
            **variables,
        }

    def start(self, command: list[str], name: str, **variables: str) -> subprocess.Popen[bytes]:
        """Starts a process; it writes to `<name>.log`."""
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(command, env=self.environment(**variables), stderr=log)
        self.processes.append(process)
        return process

    async def start_server(self, **variables: str) -> subprocess.Popen[bytes]:
        server = self.start(SERVER, "server", **variables)
        await self.until_served(server)
        return server

    async def until_served(self, server: subprocess.Popen[bytes]) -> None:
        deadline_s = time.monotonic() + READY_S
        while not await is_ready(self.address):
            assert server.poll() is None, self.log("server")
            assert time.monotonic() < deadline_s, self.log("server")
            await elapsed(0.05)

    def start_workers(self, count: int, **variables: str) -> subprocess.Popen[bytes]:
        """Starts `image-categorizer worker`, which keeps so many processes alive."""
        return self.start(WORKERS, "workers", **{"WORKER_COUNT": str(count), **variables})

    def start_worker(self, **variables: str) -> subprocess.Popen[bytes]:
        """Starts one worker process, which nobody restarts."""
        return self.start(WORKER, "worker", **variables)

    def run(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end."""
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
        async with grpc.aio.insecure_channel(self.address) as channel:
            stub = batch_pb2_grpc.BatchServiceStub(channel)
            headers = (("authorization", f"Bearer {self.api_key}"),)
            return await getattr(stub, method)(request, metadata=headers, timeout=timeout_s)

    async def drained(self, within_s: float) -> float:
        """Waits until nothing is pending; returns after how many seconds."""
        start_s = time.monotonic()
        done = await asyncio.to_thread(self.run, "drained", "--timeout", str(within_s))
        assert done.returncode == 0, f"{done.stderr}\n{self.log('workers')[-3000:]}"
        return time.monotonic() - start_s

    async def empty(self) -> None:
        """Empties the tables of batches, and the bucket."""
        connection = await asyncpg.connect(self.postgres.url)
        await connection.execute(f"TRUNCATE {TABLES}")
        await connection.close()
        for folder in self.images.glob("*"):
            shutil.rmtree(folder)

    async def row(self, query: str) -> Any:
        """Returns the first row of a query."""
        connection = await asyncpg.connect(self.postgres.url)
        try:
            return await connection.fetchrow(query)
        finally:
            await connection.close()

    async def value(self, query: str) -> Any:
        """Returns the one value that a query has."""
        return (await self.row(query))[0]

    async def until(self, query: str, within_s: float) -> None:
        """Waits until a query says yes."""
        deadline_s = time.monotonic() + within_s
        while not await self.value(query):
            assert time.monotonic() < deadline_s, self.log("workers")[-3000:]
            await elapsed(0.1)

    async def start_redis(self) -> None:
        self.redis_data.mkdir(exist_ok=True)
        with (self.folder / "redis.log").open("ab") as log:
            self.redis_process = subprocess.Popen(  # noqa: ASYNC220 - starts in no time
                self.redis_service.command, stdout=log
            )
        await self._until_ready(self.redis_service)

    async def stop_redis(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.redis_process:
            await self.end(self.redis_process, how)
        self.redis_process = None

    async def start_postgres(self) -> None:
        part = self.postgres_service
        with (self.folder / "postgres.log").open("ab") as log:
            self.postgres_process = subprocess.Popen(  # noqa: ASYNC220 - starts in no time
                part.command, stderr=log, user=part.user
            )
        await self._until_ready(part)

    async def stop_postgres(self, how: signal.Signals) -> None:
        """Ends it; after SIGKILL its helpers follow by themselves."""
        if self.postgres_process:
            await self.end(self.postgres_process, how)
        self.postgres_process = None

    async def _until_ready(self, part: ManagedProcess) -> None:
        deadline_s = time.monotonic() + READY_S
        while not await part.is_ready():
            assert time.monotonic() < deadline_s, self.log(part.name)
            await elapsed(0.05)

    async def end(self, process: subprocess.Popen[bytes], how: signal.Signals) -> int:
        process.send_signal(how)
        return await asyncio.to_thread(process.wait, 60)

    def end_all(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                for child in psutil.Process(process.pid).children(recursive=True):
                    child.kill()
                process.kill()
                process.wait(10)
        self.processes.clear()


@asynccontextmanager
async def open_cluster(data: Path) -> AsyncIterator[Cluster]:
    """Starts the stores, and makes the tables."""
    installation = Installation(data)
    installation.prepare()
    postgres, redis = EmbeddedPostgres(installation), EmbeddedRedis(installation)
    postgres_service = await postgres.process()
    stores = Cluster(postgres, redis, redis.process(), postgres_service, data, installation.sockets)
    cluster = stores
    try:
        await cluster.start_postgres()
        await postgres.create_database()
        await cluster.start_redis()
        await migrate(postgres.url, DatabaseSettings())
        async with open_database(postgres.url, DatabaseSettings()):
            api_key = (await admin.create_key("test", Role.CLASSIFIER)).secret
            worker_key = (await admin.create_key("workers", Role.WORKER)).secret
        cluster = replace(stores, api_key=api_key, worker_key=worker_key)
        yield cluster
    finally:
        cluster.end_all()
        await cluster.stop_redis()
        await cluster.stop_postgres(signal.SIGINT)
