"""One worker process: builds its components and runs them until SIGTERM."""

import asyncio
import os
import secrets
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from image_categorizer import AsyncImageCategorizationClient, Tls
from image_categorizer_server.access.certificate import show_certificates
from image_categorizer_server.db.database import open_database, pool_in_use
from image_categorizer_server.db.isolation import role_problem
from image_categorizer_server.db.schema import schema_problem
from image_categorizer_server.domain.tenant import all_tenants, one_tenant
from image_categorizer_server.egress.fetcher import open_fetcher
from image_categorizer_server.errors import DependencyDown, OperatorError
from image_categorizer_server.services.batch import Batches
from image_categorizer_server.services.crashing_images import CRASHING_IMAGES_KEY
from image_categorizer_server.services.data_key import open_sealer
from image_categorizer_server.services.erasure import Erasures
from image_categorizer_server.services.retention import Retentions
from image_categorizer_server.services.tenant_removal import TenantRemoval
from image_categorizer_server.settings import Settings
from image_categorizer_server.settings.hops import warn_of_clear_hops
from image_categorizer_server.stores.buckets import ObjectReader
from image_categorizer_server.stores.expiring_set import RedisExpiringSet
from image_categorizer_server.stores.object_store import Storage, open_storage
from image_categorizer_server.stores.queue import Doorbell
from image_categorizer_server.stores.redis import RedisCache, open_redis
from image_categorizer_server.tasks import (
    END_S,
    cancel_until_ended,
    end_within,
    stop_on_signals,
)
from image_categorizer_server.telemetry import get_log
from image_categorizer_server.telemetry.metrics import measure_lag, serving_metrics, show_disk
from image_categorizer_server.telemetry.tracing import sending_traces

from image_categorizer_workers.chunk import ChunkRunner, Components, MemoryLimiter
from image_categorizer_workers.engine import Engine
from image_categorizer_workers.images import BatchImages
from image_categorizer_workers.listener import listen
from image_categorizer_workers.quarantine import load_chunk
from image_categorizer_workers.streams import StreamPool
from image_categorizer_workers.sweeper import Removals, Sweeper
from image_categorizer_workers.webhooks import send_webhooks

log = get_log(__name__)
TRACED_SERVICE = "image-categorizer-worker"
ALIVE_INTERVAL_S = 1.0


async def run_worker(settings: Settings) -> None:
    """Runs batches until SIGTERM or SIGINT, then finishes or gives back what is under way.

    A second signal ends the process at once.

    Raises:
        OperatorError: a setting is wrong, or the database is not of this version.
        ExceptionGroup: a task died. The supervisor starts the process again.
    """
    stop = stop_on_signals()
    warn_of_clear_hops(settings)
    telemetry = settings.telemetry
    with (
        sending_traces(telemetry.traces_endpoint, telemetry.traces_ratio, TRACED_SERVICE),
        all_tenants(),
    ):
        await _run_until(stop, settings)
    log.info("stopped")


async def _run_until(stop: asyncio.Event, settings: Settings) -> None:
    async with (
        open_database(settings.database_url, settings.database),
        open_storage(settings, open_sealer(settings.encryption)) as storage,
        open_components(settings, storage) as components,
        open_redis(settings.redis_url, settings.redis) as redis,
        AsyncExitStack() as metrics,
    ):
        await _check_schema(settings.environment)
        metrics.enter_context(serving_metrics(settings.telemetry.metrics_bind, pool_in_use()))
        show_certificates(settings, "worker")
        if settings.cloud_provider == "local":
            show_disk(settings.storage.path)
        doorbell = Doorbell(redis)
        # Containers reuse process IDs, so these alone would not be unique.
        engine = Engine(f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}", components)
        batches = Batches(storage, settings.batch, settings.max_image_bytes)
        cache = RedisCache(redis, settings.redis.timeout_s)
        crashing = RedisExpiringSet(redis, CRASHING_IMAGES_KEY, settings.redis.timeout_s)
        removals = Removals(
            TenantRemoval(storage, cache, settings.tenants.removal_delay_s),
            Erasures.of(storage, cache, crashing, settings),
            Retentions.of(settings),
        )
        sweeper = Sweeper(doorbell, batches, removals, engine.wake, settings.worker.lease_s)
        async with asyncio.TaskGroup() as group:
            background = {
                group.create_task(listen(doorbell, engine.wake), name="listener"),
                group.create_task(sweeper.run(settings.worker.sweep_interval_s), name="sweeper"),
                group.create_task(_show_alive(settings.worker.alive_path), name="sign of life"),
                group.create_task(measure_lag(), name="meter of the event loop"),
            }
            group.create_task(send_webhooks(settings, stop), name="webhooks")
            working = group.create_task(engine.run(), name="engine")
            log.info("working", pid=os.getpid())
            try:
                try:
                    await stop.wait()
                finally:
                    end_within(settings.worker.grace_s + END_S)
                engine.stop()
                await working
            finally:  # also if one of the tasks died: the group would cancel the others only once
                await cancel_until_ended(background)


async def _check_schema(environment: str) -> None:
    """Passes a database of this version, and one that does not answer: the worker waits for it.

    Raises:
        OperatorError: the tables are older or newer than this program, or production may not use
            the role.
    """
    try:
        problem = await schema_problem() or await role_problem(environment)
    except DependencyDown:
        return
    if problem:
        raise OperatorError(f"{problem}.")


async def run_isolated_chunk(settings: Settings) -> None:
    """Runs the chunk on standard input. The parent process keeps its lease."""
    chunk = load_chunk(sys.stdin.buffer.read())
    with one_tenant(chunk.tenant_id):
        async with (
            open_database(settings.database_url, settings.database),
            open_storage(settings, open_sealer(settings.encryption)) as storage,
            open_components(settings, storage) as components,
        ):
            await ChunkRunner(chunk, components).run()


@asynccontextmanager
async def open_components(settings: Settings, storage: Storage) -> AsyncIterator[Components]:
    """Yields what chunks use.

    Raises:
        OperatorError: the address of the server is missing, or a setting is wrong.
    """
    client_settings, worker_settings = settings.client, settings.worker
    if not client_settings.base_url:
        raise OperatorError(
            "The server's address is missing: "
            "set CATEGORIZER_CLIENT__BASE_URL and CATEGORIZER_CLIENT__API_KEY."
        )
    async with (
        open_fetcher(settings.fetch, ObjectReader(settings).read) as fetcher,
        AsyncImageCategorizationClient(
            client_settings.read_api_key(), client_settings.base_url, tls=_tls(settings)
        ) as client,
    ):
        streams = StreamPool(
            client, worker_settings.stream_idle_s, worker_settings.answer_timeout_s
        )
        try:
            yield Components(
                settings=worker_settings,
                sealer=storage.sealer,
                images=BatchImages(storage, fetcher, settings.max_image_bytes),
                streams=streams,
                memory=MemoryLimiter(worker_settings.max_images, worker_settings.max_image_bytes),
            )
        finally:
            await streams.close()


def _tls(settings: Settings) -> Tls | None:
    """Returns which certificates the worker trusts and shows; None if the usual rules do.

    Raises:
        OperatorError: there are certificates, but the address of the server is one without TLS.
    """
    internal, client = settings.internal_tls, settings.client
    if internal.path:
        if client.base_url.lower().startswith("http:"):
            raise OperatorError(
                "CATEGORIZER_CLIENT__BASE_URL must begin with https://, as "
                "CATEGORIZER_INTERNAL_TLS__PATH is set."
            )
        files = internal.files("worker")
        return Tls(
            root_certificates=files.ca,
            certificate=files.certificate,
            private_key=files.key,
            server_name=internal.server_name,
        )
    if not (client.root_certificates_path or client.server_name):
        return None
    return Tls(
        root_certificates=client.root_certificates_path or None, server_name=client.server_name
    )


async def _show_alive(path: str) -> None:
    """Touches a file every second. If the event loop hangs, the file grows old."""
    if not path:
        return
    file = Path(path)
    try:
        while True:
            file.touch()  # noqa: ASYNC240 - takes microseconds
            await asyncio.sleep(ALIVE_INTERVAL_S)
    finally:
        file.unlink(missing_ok=True)  # noqa: ASYNC240 - takes microseconds
